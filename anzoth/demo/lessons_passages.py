"""How does the bundled model learn to answer from passages, and to say that they do not answer?

The answer is the sentence that answers, said exactly as it stands, and its passage's number: the
sentence is found by the words that it shares with the question, and what follows is copying. When
no sentence answers, one fixed reply. Nearly half of the unanswerable questions almost have an
answer: the attribute of something else, or something else of the same thing.

Does not know: how passages are laid out in a prompt (anzoth.text.passages).
"""

from __future__ import annotations

from anzoth.demo import facts
from anzoth.demo.conversation import Conversation, Turn
from anzoth.demo.draw import Draw
from anzoth.demo.facts import Fact
from anzoth.demo.untidy import untidy
from anzoth.demo.wording import capitalized
from anzoth.text.passages import Passage, question_with_passages

UNANSWERABLE = "The passages do not contain the answer."
CITES_FIRST = False
"""The number before the sentence: fewer steps of looking up. Flip it together with new weights."""
_MOST_QUESTIONS = 8
GROUNDED, REFUSED = "grounded", "unanswerable"


def answerable(draw: Draw) -> Conversation:
    """A question that one sentence of one passage answers."""
    known = _facts(draw, _num_facts(draw))
    asked = draw.rng.choice(known)
    return _conversation(draw, asked, known)


def unanswerable(draw: Draw) -> Conversation:
    """A question whose sentence was left out."""
    known = _facts(draw, max(2, _num_facts(draw)))
    asked, rest = known[0], known[1:]
    if draw.chance(0.45):
        rest[0] = _near(draw, asked)
    return _conversation(draw, asked, rest)


def questions(draw: Draw) -> tuple[Conversation, ...]:
    """Each asks something else about the same passages, with or without an answer."""
    asked, passages, sentences = _asked(draw, _MOST_QUESTIONS)
    system = (Turn("system", "You are a helpful assistant."),) if draw.chance(0.1) else ()
    said = {
        _as_asked(draw, question): _answer(fact, sentences)
        for fact in asked
        for question in (fact.question, fact.also)
    }
    return tuple(
        Conversation((*system, Turn("user", question_with_passages(question, passages)), answer))
        for question, answer in said.items()
    )


def several(draw: Draw) -> Conversation:
    """Some questions about the same passages, one after the other."""
    asked, passages, sentences = _asked(draw, draw.rng.randint(2, 6))
    turns: list[Turn] = []
    for fact in asked:
        question = _as_asked(draw, fact.question)
        user = question if turns else question_with_passages(question, passages)
        turns += [Turn("user", user), _answer(fact, sentences)]
    return Conversation(tuple(turns))


def _asked(draw: Draw, most: int) -> tuple[list[Fact], list[Passage], dict[Fact, tuple[str, int]]]:
    """What is asked, and passages that answer most of it."""
    known = _facts(draw, max(2, _num_facts(draw)))
    missing = [fact for fact in known if draw.chance(0.2)][: len(known) - 1]
    said = [fact for fact in known if fact not in missing]
    missing += [_near(draw, fact) for fact in draw.rng.sample(said, min(len(said), 2))]
    missing = [fact for fact in missing if fact.about not in {one.about for one in said}]
    passages, sentences = _passages(draw, said)
    asked = draw.rng.sample(said, min(len(said), most))
    asked += missing[: max(1, len(asked) // 3)]
    draw.rng.shuffle(asked)
    return asked[:most], passages, sentences


def _num_facts(draw: Draw) -> int:
    most = 1 + round(draw.level * 9)
    return draw.rng.randint(1, most)


def _facts(draw: Draw, number: int) -> list[Fact]:
    """Facts of which none answers another's question; often several about one thing."""
    known: list[Fact] = []
    taken: set[tuple[str, ...]] = set()
    while len(known) < number:
        fact = _another(draw, known)
        if fact.about not in taken:
            taken.add(fact.about)
            known.append(fact)
    draw.rng.shuffle(known)
    return known


def _another(draw: Draw, known: list[Fact]) -> Fact:
    attributes = [fact for fact in known if fact.short]
    if attributes and draw.chance(0.45):
        return _near(draw, draw.rng.choice(attributes))
    kind = draw.rng.random()
    if kind < 0.5:
        return facts.attribute(draw)
    return facts.event(draw) if kind < 0.75 else facts.rule(draw)


def _near(draw: Draw, fact: Fact) -> Fact:
    """A fact that shares half of its words with `fact` and does not answer its question."""
    if not fact.short:
        return facts.event(draw) if draw.chance(0.5) else facts.rule(draw)
    name, subject = fact.about
    if draw.chance(0.5):
        while (other := facts.random_attribute(draw))[1] == name or _alike(other[1], name):
            pass
        return facts.attribute(draw, of=subject, called=other)
    return facts.attribute(draw, called=facts.named_attribute(name))


def _alike(one: str, other: str) -> bool:
    """Names that share a word ask for nearly the same: such a pair would have two answers."""
    return bool(set(one.split()) & set(other.split())) or {one, other} in _SYNONYMS


_SYNONYMS = (
    {"price", "cost"},
    {"deadline", "due date"},
    {"color", "colour"},
    {"location", "venue"},
    {"manager", "director"},
    {"designer", "architect"},
    {"headquarters", "location"},
    {"email", "support address"},
)


def _passages(draw: Draw, known: list[Fact]) -> tuple[list[Passage], dict[Fact, tuple[str, int]]]:
    """The facts as passages, and each fact's sentence as it stands with its passage's number."""
    groups: list[list[Fact]] = []
    for fact in known:
        if groups and (len(groups) == 9 or draw.chance(0.55)):
            draw.rng.choice(groups).append(fact)
        else:
            groups.append([fact])
    passages: list[Passage] = []
    sentences: dict[Fact, tuple[str, int]] = {}
    for number, group in enumerate(groups, 1):
        subjects = {fact.about[-1] for fact in group if fact.short}
        all_short = all(fact.short for fact in group) and len(subjects) == 1
        title: str | None = None
        is_short = all_short and draw.chance(0.4 * draw.level)
        if is_short:
            title = capitalized(next(iter(subjects)))
        elif draw.chance(0.2):
            title = draw.rng.choice((draw.name(), draw.phrase(), f"{draw.word()}.md", "FAQ"))
        said = [fact.short if is_short else fact.sentence for fact in group]
        passages.append(Passage(" ".join(said), title))
        sentences |= {fact: (text, number) for fact, text in zip(group, said, strict=True)}
    return passages, sentences


def _answer(asked: Fact, sentences: dict[Fact, tuple[str, int]]) -> Turn:
    if asked not in sentences:
        return Turn("assistant", UNANSWERABLE, REFUSED, UNANSWERABLE)
    sentence, number = sentences[asked]
    said = f"[{number}] {sentence}" if CITES_FIRST else f"{sentence.removesuffix('.')} [{number}]."
    return Turn("assistant", said, GROUNDED, said)


def _conversation(draw: Draw, asked: Fact, known: list[Fact]) -> Conversation:
    passages, sentences = _passages(draw, known)
    user = _question(draw, asked, passages)
    system = (Turn("system", "You are a helpful assistant."),) if draw.chance(0.1) else ()
    return Conversation((*system, user, _answer(asked, sentences)))


def _question(draw: Draw, asked: Fact, passages: list[Passage]) -> Turn:
    return Turn("user", question_with_passages(_as_asked(draw, asked.question), passages))


def _as_asked(draw: Draw, question: str) -> str:
    if draw.chance(0.5):
        return untidy(question, draw.rng)
    return f"{capitalized(question)}?" if draw.chance(0.8) else question
