"""Which properties do schemas ask for that nobody has thought of?

Named by nouns and adjectives that people put into schemas, or by made-up words, and with values of
any kind: whatever a name suggests, only reading the schema tells what to look for. No two names of
a schema share a word, so that a text cannot be read in two ways.

Does not know: properties that belong together (see `anzoth.demo.json_things`).
"""

# ruff: noqa: SIM905  (lists of words are read best as text)

from __future__ import annotations

from anzoth.demo.draw import Draw, Phrasings
from anzoth.demo.json_values import LISTS, STRINGS, Field, verbatim
from anzoth.demo.wording import plural

_TRUE = Phrasings(
    ("it is {name}", "{name} is true", "{name} is yes"),
    ("it is certainly {name}", "the {name} is true"),
)
_FALSE = Phrasings(
    ("it is not {name}", "{name} is false", "{name} is no"),
    ("it is certainly not {name}", "the {name} is false"),
)

_ATTRIBUTES = tuple(
    "name title city color size weight owner status code type label group model brand level grade"
    " team shape source target region state country village street street_name room floor shelf box"
    " material style theme flavor season month day date year price cost budget speed height width"
    " length depth age rank score points mark score_total number count amount quantity limit total"
    " user user_name login nickname password pin contact agent author editor speaker driver pilot"
    " captain leader manager client customer patient student teacher parent partner sender receiver"
    " address_line email phone website host server port version branch project task topic subject"
    " category priority department office station airport hotel restaurant dish drink animal plant"
    " tree flower song band album movie game sport club event place order order_number item part"
    " part_number serial_number batch lot invoice ticket seat gate train bus line route key tag id"
    " item_id user_id voltage pressure temperature distance capacity volume frequency"
    " strength".split()
)
_ADJECTIVES = tuple(
    "active open closed ready broken clean empty full hot cold wet dry heavy light loud quiet"
    " public private visible hidden locked new old fragile safe valid urgent free paid verified"
    " archived enabled blocked shared frozen sealed fast rare sharp waterproof wireless".split()
)


def invented_fields(draw: Draw, num: int) -> list[Field]:
    """Rarely, their names do share a word: the same last one, which tells nothing."""
    fields: list[Field] = []
    taken: set[str] = set()
    shared = draw.word() if draw.chance(0.1 * draw.level) else None
    while len(fields) < num:
        kind = draw.rng.choice(tuple(STRINGS))
        if draw.chance(0.45 * draw.level):
            kind = draw.rng.choice(("integer", "integer", "price", "flag", "choice", "list"))
        name = draw.one_of(_ADJECTIVES) if kind == "flag" else _noun(draw, shared)
        words = set(name.split("_")) - {shared}
        if words & taken or not words:
            continue
        taken |= words
        fields.append(_field(draw, kind, name))
    return fields


def _noun(draw: Draw, shared: str | None) -> str:
    if shared:
        return f"{draw.word()}_{shared}"
    if draw.chance(0.4):
        return draw.one_of(_ATTRIBUTES)
    return f"{draw.word()}_{draw.word()}" if draw.chance(0.25) else draw.word()


def _field(draw: Draw, kind: str, name: str) -> Field:
    if kind == "list":
        return Field(draw.rng.choice(tuple(LISTS)), (plural(name),))
    if kind == "choice":
        options = [draw.word() for _ in range(draw.rng.choice((2, 3, 3, 4)))]
        return Field(kind, (name,), verbatim(*options))
    if kind == "flag":
        says = {True: _about(name, _TRUE), False: _about(name, _FALSE)}
        return Field(kind, (f"is_{name}" if draw.chance(0.5) else name,), says)
    return Field(kind, (name,))


def _about(name: str, says: Phrasings) -> Phrasings:
    train, held_out = (
        tuple(f"{one.replace('{name}', name)}." for one in side)
        for side in (says.train, says.held_out)
    )
    return Phrasings(train, held_out)
