"""Titles as MediaWiki writes them: one key for every way to write a link, and one form for every way to spell it."""

import html
import re
import unicodedata


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Prefixes of titles that are no article: other namespaces, other projects, other languages.
_NAMESPACES = words(
    """
    file image media category template wikipedia wp wikt wiktionary s wikisource q wikiquote b wikibooks n wikinews
    v wikiversity d wikidata c commons m meta species special help portal user draft module mediawiki talk book
    datei fichier archivo imagen categor\u00eda cat\u00e9gorie kategorie
    \u043a\u0430\u0442\u0435\u0433\u043e\u0440\u0438\u044f
    \u0444\u0430\u0439\u043b \u30d5\u30a1\u30a4\u30eb \u30ab\u30c6\u30b4\u30ea \u6587\u4ef6
    \u5206\u7c7b \u6a94\u6848 \u5206\u985e simple mdwiki
    \u057a\u0561\u057f\u056f\u0565\u0580 \u056f\u0561\u057f\u0565\u0563\u0578\u0580\u056b\u0561
    """
)
_LANGUAGES = words(
    """
    aa ab af als am an ar arz as ast av ay az azb ba bar be bg bh bn bo br bs ca ce ceb ckb co cs cu cv cy da de dv
    dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi hr ht hu hy ia id ig ik io is it iu ja jv
    ka kg ki kk kl km kn ko ks ku kv kw ky la lb lg li ln lo lt lv mg mi mk ml mn mr ms mt my na nds ne nl nn no nv
    ny oc om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg
    th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """
)
_PREFIXES = frozenset(_NAMESPACES) | frozenset(_LANGUAGES) | {"user talk", "file talk"}
_WIKIS = re.compile(
    rf"^(?:(?:{'|'.join(_LANGUAGES)}|simple|mul)_(?=.))?(?:(?:mdwiki|enwiki|[a-z]{{2,3}}wiki|wikipedia|wiki)_(?=.))?"
)
_DISAMBIGUATOR = re.compile(r"^(.*\S)\s*\(([^()]+)\)$")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u00ad\ufeff"))
# British spellings folded into American ones; only for comparing, never for writing.
_SPELLINGS = (
    ("aemi", "emi"), ("haem", "hem"), ("oede", "ede"), ("oeso", "eso"), ("rrhoe", "rrhe"), ("paed", "ped"),
    ("orthopaed", "orthoped"), ("foet", "fet"), ("gynae", "gyne"), ("anaes", "anes"), ("caec", "cec"), ("faec", "fec"),
    ("tumour", "tumor"), ("colour", "color"), ("behaviour", "behavior"), ("isation", "ization"), ("oestr", "estr"),
    ("leukaem", "leukem"), ("ischaem", "ischem"), ("dyspnoe", "dyspne"), ("apnoe", "apne"), ("fibre", "fiber"),
    ("coeliac", "celiac"), ("sulph", "sulf"), ("aetiolog", "etiolog"), ("naevus", "nevus"),
)  # fmt: skip


def title_key(target: str) -> str:
    """The article a link's target names: `_` is a space, the first letter is a capital; "" where it is no article.

    Sections (`Title#Part`), other namespaces and other wikis are no articles.
    """
    target = unicodedata.normalize("NFC", html.unescape(target)).translate(_INVISIBLE)
    target = " ".join(target.replace("_", " ").split()).lstrip(":").strip()
    if not target or "#" in target or any(c in target for c in "{}[]<>|\x02\x03"):
        return ""
    prefix, colon, _ = target.partition(":")
    if colon and prefix.strip().lower() in _PREFIXES:
        return ""
    return first_capital(target) if len(target) <= 255 else ""


def first_capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def phrase_name(text: str) -> str:
    """A phrase as a node's name: a capital first, but for eGFR, pH and their like."""
    return text if text[1:2].isupper() else first_capital(text)


def split_disambiguator(title: str) -> tuple[str, str]:
    """("Candida", "fungus") of "Candida (fungus)"; ("Fever", "") of "Fever"."""
    parts = _DISAMBIGUATOR.match(title)
    return (parts.group(1), parts.group(2)) if parts else (title, "")


def file_title(stem: str) -> str:
    """The title in a file's name, without the prefix that tells language or wiki: `en_mdwiki_X` is X."""
    return first_capital(" ".join(_WIKIS.sub("", stem).replace("_", " ").split()))


def fold(title: str) -> str:
    """One form for the spellings of a title: case, hyphens, British or American, singular or plural.

    Two titles with one form are taken for one thing, so acronyms keep their case: AIDS is not aids.
    """
    words = []
    for word in re.split(r"[\s\-\u2010-\u2015]+", title):
        if len(word) <= 5 and word[1:].upper() == word[1:] and not word[1:].islower() and len(word) > 1:
            words.append(word)
            continue
        word = word.casefold().replace("\u2019", "'")
        for british, american in _SPELLINGS:
            word = word.replace(british, american)
        words.append(word)
    last = words[-1]
    if last.endswith("ies") and len(last) > 4:
        words[-1] = last[:-3] + "y"
    elif last.endswith("s") and len(last) > 3 and not last.endswith(("ss", "us", "is", "itis")):
        words[-1] = last[:-1]
    return " ".join(words)


def language(text: str) -> str:
    """zh for Chinese, en for Latin script, "" for others (the graph's files know these two)."""
    if any("\u3040" <= c <= "\u30ff" or "\uac00" <= c <= "\ud7a3" for c in text):
        return ""
    if any("\u4e00" <= c <= "\u9fff" for c in text):
        return "zh"
    letters = [c for c in text if c.isalpha()]
    return "en" if letters and all(c < "\u0250" or "\u0370" <= c <= "\u03ff" for c in letters) else ""
