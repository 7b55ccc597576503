"""What type a thing is, from the words of its name, its categories and the slots that name it.

The page's own box decides where there is one. Otherwise every slot votes: for the type that name or categories hint at
where the relation allows it, else for the slot's own. What nothing speaks for has no type and stays out of the graph.
"""

import re

from corl.rods.graph.schema import INVERSES, RELATIONS

BOX_TYPES = {"disease": "disease", "symptom": "symptom", "drug": "drug", "chembox": "drug", "taxobox": "pathogen"}

# The type a slot speaks for when its object's name says nothing; a slot not listed here needs a hint.
SLOT_TYPES = {
    "has_symptom": "symptom", "has_sign": "sign", "has_complication": "disease", "has_subtype": "disease",
    "caused_by": "risk_factor", "has_risk_factor": "risk_factor", "diagnosed_by": "procedure",
    "differential_of": "disease", "prevented_by": "procedure", "treated_by": "procedure",
    "treated_with_drug": "drug", "in_specialty": "specialty", "in_drug_class": "drug_class",
    "indicated_for": "disease", "has_side_effect": "symptom", "contraindicated_in": "disease",
    "prevents": "disease", "is_a": "disease",
}  # fmt: skip

# Ordered: the first that fits a name decides. The last word carries the kind in English, so suffixes come first.
_HINTS: tuple[tuple[str, str], ...] = (
    ("specialty", r"\b(?:medicine|surgery \(specialty\)|[a-z]+ology|pa?ediatrics|psychiatry|obstetrics|geriatrics)$"),
    ("imaging_finding", r"\b(?:opacit(?:y|ies)|infiltrates?|on (?:x-?ray|ct|mri|ultrasound))$"),
    ("imaging", r"\b(?:mri|ct|pet|x-?rays?|radiograph[ys]?|ultrasound|ultrasonography|sonography|"
     r"echocardiogra(?:m|phy)|"
     r"angiogra(?:m|phy)|tomography|scans?|imaging|mammogra(?:m|phy)|scintigraphy|fluoroscopy|venography|doppler)$"),
    ("lab_test", r"\b(?:blood tests?|tests?|testing|assays?|cultures?|serology|pcr|elisa|titers?|panel|count|"
     r"urinalysis|electrophoresis|sequencing|karyotype|polymerase chain reaction|blood film|gram stain|microscopy|"
     r"cytology|histology|histopathology|spectrometry|immunoassay|level|levels)$"),
    ("lab_finding", r"^(?:low|high|elevated|raised|decreased|reduced|increased|positive|negative) (?:serum |"
     r"plasma |urine |"
     r"blood )?(?:[a-z\-]+ (?:levels?|count|cells?|antibod(?:y|ies)|titers?)|sodium|potassium|calcium|iron|ferritin|"
     r"glucose|bilirubin|creatinine|albumin|ammonia|ceruloplasmin|lactate|copper|ldh|tsh|psa|crp|esr|ast|alt)$"),
    ("procedure", r"\b(?:surger(?:y|ies)|transplant(?:s|ation)?|transfusions?|biops(?:y|ies)|endoscopy|colonoscopy|"
     r"dialysis|radiotherapy|phototherapy|physiotherapy|psychotherapy|(?:occupational|speech|physical|radiation|"
     r"behaviou?ral|cognitive behaviou?ral|oxygen|fluid|gene|cognitive) therap(?:y|ies)|rehabilitation|counsell?ing|"
     r"ventilation|exercises?|diets?|vaccinations?|immuni[sz]ation|screening|[a-z]+ectom(?:y|ies)|[a-z]+plast(?:y|ies)|"
     r"[a-z]+ostom(?:y|ies)|[a-z]+oscop(?:y|ies)|[a-z]+centesis|puncture|ablation|stimulation|rest|massage|hygiene|"
     r"hand washing|electrocardiogra(?:m|phy)|electroencephalogra(?:m|phy)|electromyography|spirometry|care|"
     r"catheterization|intubation|resuscitation|amputation|drainage|splint(?:ing)?|acupuncture|apheresis)$"),
    ("drug_class", r"\b(?:[a-z0-9\u03b1-\u03c9\-]*(?:inhibitors?|blockers?|antagonists?|agonists?|modulators?|"
     r"analogues?|analogs?|"
     r"steroids?|diuretics?)|nsaids?|antibiotics?|antivirals?|antifungals?|antipsychotics?|antidepressants?|"
     r"anticonvulsants?|anticoagulants?|antihistamines?|antiemetics?|antacids?|antihypertensives?|anxiolytics?|"
     r"antimalarials?|anthelmintics?|antiretrovirals?|antipyretics?|antiarrhythmics?|antiparasitics?|antispasmodics?|"
     r"antitussives?|antimicrobials?|antiseptics?|antiplatelets?|cytotoxics?|immunosuppress(?:ants?|ives?)|sedatives?|"
     r"opioids?|stimulants?|analgesics?|an(?:a)?esthetics?|laxatives?|bronchodilators?|vasodilators?|vasopressors?|"
     r"statins?|fibrates?|triptans?|barbiturates?|benzodiazepines?|bisphosphonates?|retinoids?|salicylates?|"
     r"penicillins?|cephalosporins?|macrolides?|tetracyclines?|quinolones?|fluoroquinolones?|sulfonamides?|"
     r"aminoglycosides?|carbapenems?|glycopeptides?|thiazides?|nitrates?|anticholinergics?|muscle relaxants?|"
     r"contraceptives?|supplements?|medications?|drugs?|vaccines?|emollients?|moisturizers?|decongestants?|"
     r"expectorants?|mucolytics?|hypnotics?|nootropics?|chelators?|interferons?|monoclonal antibod(?:y|ies)|"
     r"painkillers?|"
     r"pain medications?|azoles?|triazoles?|phenothiazines?|tricyclics?|ssris?|snris?|maois?|arbs?|depressants?|"
     r"sulfonylureas?|biguanides?|gliptins?|gliflozins?|prostaglandins?|progestogens?|estrogens?|androgens?|"
     r"chemotherapy|immunotherapy|antivenoms?|toxoids?|antitoxins?)$"),
    ("drug", r"(?:[a-z]{2,}(?:mab|nib|vir|cillin|[cgv]azole|nazole|dazole|prazole|olol|pril|sartan|statin|"
     r"mycin|micin|floxacin|"
     r"cycline|oxacin|tidine|setron|triptan|gliptin|gliflozin|glutide|parin|xaban|gatran|azepam|azolam|barbital|"
     r"caine|dronate|semide|thiazide|terol|tropium|sone|solone|onide|profen|coxib|platin|rubicin|taxel|tinib|zumab|"
     r"ximab|limus|parib|ciclib|vaptan|lukast|dipine|zosin|afil|oxetine|triptyline|pramine|azine|peridol|apine|idone|"
     r"piprazole|penem|bactam|oxone|azid|quine|mectin|antel|vudine|formin|glitazone|glinide|tretin|trexate|cetaxel)|"
     r"insulin|aspirin|heparin|warfarin|morphine|lithium|immun(?:e )?o?globulins?|paracetamol|acetaminophen|digoxin|"
     r"epinephrine|adrenaline|vitamin [a-k]\d{0,2}|folic acid|iron supplementation|alcohol)$"),
    ("gene", r"\b(?:genes?|mutations? (?:in|of) .*)$"),
    ("protein", r"(?:\b(?:receptors?|enzymes?|proteins?|channels?|transporters?|kinases?|antibod(?:y|ies)|antigens?|"
     r"hormones?|cytokines?|interleukins?[ \-\d]*|p-glycoprotein|hemoglobin|albumin|collagen)|"
     r"\bcyp\d[a-z0-9]*|\b[a-z]{3,}(?:transferase|esterase|oxidase|reductase|synthase|hydrolase|kinase|protease|"
     r"peptidase|lipase|amylase|amidase|aldolase|dehydrogenase|carboxylase|phosphatase|nuclease|polymerase)s?|"
     r"\bcytochrome p450)$"),
    ("pathogen", r"^(?:[A-Z][a-z]{2,}(?:coccus|bacillus|bacter|bacterium|plasma|monas|spora|phyton|strongylus)|"
     r"Escherichia|Candida|Clostridium|Clostridioides|Plasmodium|Giardia|Treponema|Leishmania|Trypanosoma|Borrelia|"
     r"Listeria|Aspergillus|Neisseria|Haemophilus|Vibrio|Shigella|Salmonella|Yersinia|Rickettsia|Chlamydia|"
     r"Toxoplasma|Entamoeba|Bordetella|Brucella|Legionella|Klebsiella|Ascaris|Schistosoma|Taenia|Coxiella|"
     r"Pseudomonas|Leptospira|Histoplasma|Coccidioides|Cryptosporidium|Naegleria|Bartonella|Trichomonas|Wuchereria)"
     r"(?: (?!infections?|disease|poisoning|pneumonia$|vaginitis|endocarditis)[a-z]+)?$"),
    ("symptom", r"\b(?:(?:[a-z]+ )?pains?|fever|chills|nausea|vomiting|headaches?|fatigue|tiredness|"
     r"cough(?:ing)?|rash(?:es)?|"
     r"itch(?:ing|iness)?|pruritus|swelling|dizziness|lightheadedness|diarrh(?:o)?ea|constipation|dyspn(?:o)?ea|weakness|"
     r"shortness of breath|sweating|night sweats|palpitations?|tremors?|bleeding|numbness|jaundice|"
     r"sore throat|runny nose|"
     r"weight (?:loss|gain)|loss of (?:appetite|smell|taste|consciousness)|insomnia|sleepiness|drowsiness|confusion|"
     r"blurr(?:ed|y) vision|double vision|dry (?:mouth|skin|eyes)|muscle (?:weakness|cramps?|spasms?|aches?)|bloating|"
     r"heartburn|hoarseness|wheez(?:e|ing)|redness|tenderness|stiffness|vertigo|fainting|syncope|malaise|irritability|"
     r"(?:low|high) blood pressure|(?:ab|dis)dominal distension|hearing loss|vision loss|hair loss|"
     r"nosebleeds?|seizures?|"
     r"hallucinations?|delusions?|anxiety|belching|flatulence|hiccups|thirst|polydipsia|discharge|cyanosis|lethargy)$"),
    ("disease", r"^(?!.*\b(?:manual|classification|heritability|histor(?:y|ies)|epidemiology|genetics|causes|society|"
     r"association|foundation|hospital|diagnosis|prognosis|management|treatment|prevention|research|"
     r"in pregnancy) (?:of|in|and|for)\b)"
     r"(?!.*(?:(?:mei|mit|apopt|symbi|diagn|progn|hypn|osm|phagocyt|endocyt|exocyt|metamorph|necropt)osis)$)"
     r"(?:.*\b(?:diseases?|syndromes?|disorders?|infections?|cancers?|carcinomas?|tumou?rs?|deficienc(?:y|ies)|"
     r"failure|injur(?:y|ies)|hypertension|hypotension|diabetes(?: mellitus)?(?: type [12])?|type [12] diabetes|stroke|"
     r"asthma|epilepsy|malaria|tuberculosis|hiv/aids|aids|sepsis|septic shock|schizophrenia|depression|autism|obesity|"
     r"infarction|attack|embolism|thrombosis|cirrhosis|gout|lupus|psoriasis|eczema|ulcers?|hernias?|palsy|dementia|"
     r"cataracts?|glaucoma|poisoning|toxicity|overdose|abscess(?:es)?|fractures?|stillbirth|miscarriage|blindness|"
     r"preterm birth|hyperplasia|dysplasia|dystrophy|atrophy|[a-z]+ fever|shock|anaphylaxis|coma|disability|measles|"
     r"mumps|rubella|influenza|pneumonia|cholera|typhus|plague|rabies|tetanus|polio|leprosy|syphilis|gonorrhea)|"
     r".*[a-z]{2,}(?:itis|osis|[^d]emia|[^d]aemia|pathy|oma|plegia|iasis|[^t]rrhage|trophy|sclerosis|megaly|penia|philia|"
     r"ectasis|malacia|stenosis|cele|uria))$"),
    ("pathogen", r"\b(?:virus(?:es)?|[a-z]*virus(?: [a-z0-9\-]{1,3})?|bacteri(?:a|um)|fung(?:us|i)|parasites?|"
     r"protozoa[n]?|"
     r"[a-z]*worms?|mites?|lice|ticks?|prions?|yeasts?|mou?lds?)$"),
    ("anatomy", r"\b(?:liver|kidneys?|lungs?|heart|brain|skin|blood(?: plasma)?|stomach|intestines?|"
     r"small intestine|colon|bladder|"
     r"pancreas|spleen|thyroid|bones?|muscles?|eyes?|ears?|nerves?|spinal cord|gut|plasma|uterus|prostate|"
     r"gastrointestinal tract|gut wall|red blood cells?|lymph nodes?|joints?)$"),
    ("mechanism", r"(?:\b(?:mutations?|inheritance|autosomal (?:dominant|recessive)|x-linked(?: recessive| dominant)?|"
     r"genetics?|inflammation|autoimmun(?:e|ity)(?: reaction| response)?|ischa?emia|apoptosis|oxidative stress|"
     r"immune response|obstruction|hypoxia|genetic (?:mutation|disorder)s?)|pathway|signal(?:l)?ing)$"),
)  # fmt: skip
_COMPILED = tuple((kind, re.compile(pattern, re.I)) for kind, pattern in _HINTS)

_DISAMBIGUATORS = {
    "disease": "disease", "disorder": "disease", "medicine": "disease", "medical condition": "disease",
    "pathology": "disease", "condition": "disease", "medical": "disease", "symptom": "symptom",
    "medical sign": "sign", "sign": "sign", "fungus": "pathogen", "genus": "pathogen", "bacteria": "pathogen",
    "bacterium": "pathogen", "virus": "pathogen", "parasite": "pathogen", "genus bacteria": "pathogen",
    "yeast": "pathogen", "species": "pathogen", "medication": "drug", "drug": "drug", "pharmaceutical": "drug",
    "pharmaceutical drug": "drug", "medical specialty": "specialty", "specialty": "specialty",
    "medical speciality": "specialty", "gene": "gene", "protein": "protein", "enzyme": "protein",
    "hormone": "protein", "anatomy": "anatomy", "organ": "anatomy", "biology": "mechanism",
    "drug class": "drug_class", "surgery": "procedure", "procedure": "procedure", "psychiatry": "disease",
}  # fmt: skip
_CATEGORIES = tuple(
    (kind, re.compile(pattern, re.I))
    for kind, pattern in (
        ("specialty", r"medical specialt"),
        ("symptom", r"symptoms(?: and signs)?\b|^signs? and symptoms|^pain$"),
        ("sign", r"medical signs"),
        ("imaging", r"medical imaging|radiography|^magnetic resonance imaging|projectional radiograph"),
        ("lab_test", r"(?:blood|medical|urine|diagnostic|genetic|laboratory) tests?\b|laboratory techniques"),
        ("procedure", r"surg(?:ery|ical procedures)|medical (?:treatments|procedures)|therap(?:y|ies)$|"
         r"^physical therapy"),
        ("drug_class", r"drug classes|^(?:antibiotics|antidepressants|antipsychotics|analgesics|diuretics)$"),
        ("drug", r"\bdrugs\b|medicines$|(?:anti[a-z]+|blockers|inhibitors|agonists|antagonists)$|withdrawn drugs"),
        ("gene", r"^genes (?:on|mutated)"),
        ("protein", r"\b(?:enzymes|proteins|receptors|hormones|cytokines|antibodies)$|^ec \d"),
        ("pathogen", r"(?:bacteria|viruses|fungi|parasites|pathogens|nematodes|protozoa[ns]*|bacteria described)\b"),
        ("anatomy", r"\b(?:anatomy|organs|muscles|bones|arteries|veins|glands|nerves|tissues)\b"),
        ("disease", r"\b(?:diseases|disorders|syndromes|infections|cancers|neoplasms|injuries|complications|"
         r"deformities|"
         r"inflammations|poisonings?|deficiencies|conditions)\b|^(?:rare|ailments)"),
    )
)  # fmt: skip
_NO_TOPIC = re.compile(
    r"\b(?:people|deaths|births|organi[sz]ations?|hospitals?|history|films?|journals?|lists?|articles?|books?|companies|"
    r"activists|societies|awareness|pages|wikipedia|stubs?|research|charities|physicians|by country|in fiction)\b",
    re.I,
)


def hint_from_name(title: str, disambiguator: str) -> str:
    """The type a name speaks for, "" where it says nothing."""
    if kind := _DISAMBIGUATORS.get(disambiguator.casefold(), ""):
        return kind
    return next((kind for kind, pattern in _COMPILED if pattern.search(title)), "")


def hint_from_categories(categories: list[str]) -> str:
    topics = [category for category in categories if not _NO_TOPIC.search(category)]
    return next((kind for kind, pattern in _CATEGORIES if any(pattern.search(topic) for topic in topics)), "")


def vote(relation: str, hints: tuple[str, ...], *, italic: bool = False) -> str:
    """The type that one slot speaks for; `hints` in order of trust, `italic` as species names are set."""
    allowed = object_types(relation)
    if italic and "pathogen" in allowed:
        return "pathogen"
    return next((hint for hint in hints if hint in allowed), SLOT_TYPES.get(relation, ""))


def object_types(relation: str) -> tuple[str, ...]:
    """The types of the thing a page's slot names: the tail's, or of an inverse (indicated_for) the head's."""
    return RELATIONS[INVERSES[relation]].domain if relation in INVERSES else RELATIONS[relation].range
