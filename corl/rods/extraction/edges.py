"""From mentions to edges: ends resolved, types held to the schema, contradictions taken out, agreement made strong."""

from collections import Counter
from collections.abc import Iterator

from corl.rods.extraction.entities import Entities
from corl.rods.extraction.store import Store
from corl.rods.graph.schema import INVERSES, RELATIONS


def resolve_edges(store: Store, entities: Entities) -> Counter[str]:
    """Fill the store's edge table; what is lost on the way is counted by its reason.

    An edge keeps the relation its page used; `turned` says that head and tail of the table are those of the relation
    that it is the inverse of, so one fact looks the same whichever page tells it.
    """
    lost: Counter[str] = Counter()
    store.insert_edges(_edges(store, entities, lost))
    store.rows("create index edge_fact on edge(head, relation, tail)")
    _drop_contradictions(store, lost)
    _confirm(store)
    return lost


def _edges(store: Store, entities: Entities, lost: Counter[str]) -> Iterator[tuple]:
    page_keys = dict(store.rows("select id, key from page"))
    cursor = store.rows(
        "select page, relations, text, target, strong, parameter, note, prose, backwards from mention order by rowid"
    )
    for page, relations, text, target, strong, parameter, note, prose, backwards in cursor:
        subject, thing = entities.of_page(page_keys[page]), entities.find(target, text)
        if thing is None:
            lost["unresolved_link"] += 1
            continue
        if thing == subject:
            lost["names_itself"] += 1
            continue
        head_type, tail_type = entities.all[subject].type, entities.all[thing].type
        if backwards:
            head_type, tail_type = tail_type, head_type
        if not entities.all[thing].type:
            lost["untyped_in_section" if prose else "untyped"] += 1
            continue
        for relation in relations.split(" "):
            turned = relation in INVERSES
            name = INVERSES.get(relation, relation)
            ends = (tail_type, head_type) if turned else (head_type, tail_type)
            if ends[0] in RELATIONS[name].domain and ends[1] in RELATIONS[name].range:
                # one swap for a relation's inverse, one for a fact told from its tail's page
                head, tail = (thing, subject) if turned != bool(backwards) else (subject, thing)
                yield head, name, tail, strong, int(turned), page, parameter, note
                break
        else:
            lost[f"type_does_not_fit:{relations.split(' ')[0]}" if not prose else "type_does_not_fit_in_section"] += 1


def _drop_contradictions(store: Store, lost: Counter[str]) -> None:
    """A drug that treats a disease and must not be given in it: neither is believed."""
    pairs = store.rows(
        "select distinct a.head, a.tail from edge a join edge b on b.head = a.tail and b.tail = a.head "
        "where a.relation in ('treated_with_drug', 'treated_by') and b.relation = 'contraindicated_in'"
    ).fetchall()
    for disease, drug in pairs:
        lost["contradiction"] += 1
        store.rows(
            "delete from edge where (head = ? and tail = ? and relation in ('treated_with_drug', 'treated_by')) "
            "or (head = ? and tail = ? and relation = 'contraindicated_in')",
            (disease, drug, drug, disease),
        )


def _confirm(store: Store) -> None:
    """A fact that two pages' sections tell, that of its head and that of its tail, is strong."""
    store.rows(
        "update edge set strong = 1 where strong = 0 and exists ("
        "select 1 from edge other join page mine on mine.id = edge.page join page theirs on theirs.id = other.page "
        "where other.head = edge.head and other.relation = edge.relation and other.tail = edge.tail "
        "and mine.key != theirs.key)"
    )
