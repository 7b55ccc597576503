"""What a box's parameters say: a relation, an attribute, an identifier or another name.

Names are compared in lower case with `_` as a space. Sources: the documentation of the templates and of MDWiki's
`uses`, `side effects` and `interactions`, which the English box lacks.
"""

RELATION_OF: dict[str, dict[str, str]] = {
    "disease": {
        "symptoms": "has_symptom", "symptom": "has_symptom", "signs": "has_sign", "complications": "has_complication",
        "complication": "has_complication", "types": "has_subtype", "causes": "caused_by", "cause": "caused_by",
        "risks": "has_risk_factor", "risk": "has_risk_factor", "risk factors": "has_risk_factor",
        "diagnosis": "diagnosed_by", "diagnostic": "diagnosed_by", "differential": "differential_of",
        "differential diagnosis": "differential_of", "diff": "differential_of", "prevention": "prevented_by",
        "treatment": "treated_by", "treatments": "treated_by", "management": "treated_by",
        "medication": "treated_with_drug", "medications": "treated_with_drug", "field": "in_specialty",
        "specialty": "in_specialty", "speciality": "in_specialty", "fields": "in_specialty",
    },
    "drug": {
        "class": "in_drug_class", "drug class": "in_drug_class", "uses": "indicated_for", "use": "indicated_for",
        "side effects": "has_side_effect", "side effect": "has_side_effect", "interactions": "interacts_with",
        "metabolism": "metabolised_by", "contraindications": "contraindicated_in",
    },
    "chembox": {"metabolism": "metabolised_by"},
    "taxobox": {},
}  # fmt: skip
RELATION_OF["symptom"] = RELATION_OF["disease"]

ATTRIBUTE_OF: dict[str, dict[str, str]] = {
    "disease": {
        "onset": "onset", "duration": "duration", "prognosis": "prognosis", "frequency": "frequency",
        "deaths": "deaths", "age of onset": "onset", "usual onset": "onset",
    },
    "drug": {
        "bioavailability": "bioavailability", "protein bound": "protein_bound", "onset": "onset_of_action",
        "elimination half-life": "half_life", "half-life": "half_life", "duration of action": "duration_of_action",
        "excretion": "excretion", "metabolites": "metabolites", "routes of administration": "route",
        "routes": "route", "defined daily dose": "defined_daily_dose", "typical dose": "typical_dose",
        "breastfeeding": "breastfeeding", "dependency liability": "dependency",
        "addiction liability": "addiction", "legal status": "legal_status",
        "pregnancy category": "pregnancy_category",
    },
    "chembox": {
        "adminroutes": "route", "bioavail": "bioavailability", "proteinbound": "protein_bound",
        "halflife": "half_life", "excretion": "excretion", "legal status": "legal_status",
        "pregcat": "pregnancy_category",
    },
    "taxobox": {},
}  # fmt: skip
ATTRIBUTE_OF["symptom"] = ATTRIBUTE_OF["disease"]
_COUNTRIES = ("au", "br", "ca", "de", "nz", "uk", "us", "eu", "un")
for _place in _COUNTRIES:
    ATTRIBUTE_OF["drug"][f"legal {_place}"] = f"legal_{_place}"
    ATTRIBUTE_OF["drug"][f"pregnancy {_place}"] = f"pregnancy_{_place}"

IDENTIFIERS = {
    "icd10": "icd10", "icd-10": "icd10", "icd11": "icd11", "icd-11": "icd11", "icd9": "icd9", "icd-9": "icd9",
    "icdo": "icdo", "icd-o": "icdo", "omim": "omim", "orphanet": "orphanet", "diseasesdb": "diseasesdb",
    "medlineplus": "medlineplus", "meshid": "mesh", "mesh": "mesh", "mesh1": "mesh", "genereviewsnbk": "genereviews",
    "cas number": "cas", "casno": "cas", "pubchem": "pubchem", "drugbank": "drugbank", "unii": "unii", "kegg": "kegg",
    "chebi": "chebi", "chembl": "chembl", "chemspiderid": "chemspider", "iuphar ligand": "iuphar",
}  # fmt: skip
# Templates that hold a page's identifiers since they moved out of the box.
RESOURCES = ("medical resources", "medical condition resources", "drug resources", "disease resources")

# The names a box gives its subject, by how sure they are: the first of these is a file's title.
TITLES = ("name", "drug name")
ALIASES = {
    "name": "name", "drug name": "name", "synonym": "synonym", "synonyms": "synonym", "other names": "synonym",
    "othernames": "synonym", "othername": "synonym", "tradename": "brand", "trade name": "brand", "inn": "synonym",
    "usan": "synonym", "ban": "synonym", "jan": "synonym", "binomial": "synonym",
}  # fmt: skip

DISEASE_MARKS = (
    frozenset(RELATION_OF["disease"]) | frozenset(ATTRIBUTE_OF["disease"]) | {"diseasesdb", "meshid", "icd10", "icd9"}
) - {"field", "duration", "onset"}
DRUG_MARKS = (
    frozenset(RELATION_OF["drug"]) | frozenset(ATTRIBUTE_OF["drug"]) | {"tradename", "iupac name", "drugs.com",
    "atc prefix", "atc suffix", "cas number", "dailymedid", "stdinchi", "drugbank"}
) - {"class", "use", "uses", "onset", "synonyms"}  # fmt: skip
ATC = (("atc prefix", "atc suffix"), ("atccode prefix", "atccode suffix"))

# A bare word of a pharmacokinetic field that means an organ.
ORGANS = {"hepatic": "Liver", "renal": "Kidney", "intestinal": "Small intestine", "pulmonary": "Lung",
          "gastrointestinal": "Gastrointestinal tract", "kidneys": "Kidney", "plasma": "Blood plasma"}  # fmt: skip
