"""On which tasks, written by hand, is the bundled model examined?

What a newcomer tries with own documents and tools: answer from passages and cite, decline when they
do not say, call tools or leave them alone, put results into words, answer in JSON, remember. None
of this may be copied into the lessons: a failed question is a fact about the model.

The tables are plain text, and most of this long module. Blank lines separate blocks, and a line
that begins with two spaces continues the one before. `a|b` are spellings of which one is enough,
`a & b` are both needed.

Does not know: how an answer is generated, or how calls are found in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anzoth.demo.conversation import Conversation, Json, ToolCall, Turn
from anzoth.text.answer_format import with_schema
from anzoth.text.passages import Passage, question_with_passages


@dataclass(slots=True, frozen=True)
class Case:
    """A conversation up to where the assistant speaks, and what makes its answer right.

    In the expected `call` and `json` a string is compared exactly; a tuple holds accepted
    spellings, compared without case, where "" means that it may be missing.
    """

    category: str
    conversation: Conversation
    says: tuple[tuple[str, ...], ...] = ()
    """The answer contains one phrase of each of these, as whole words and without case."""
    never_says: tuple[str, ...] = ()
    cites: frozenset[int] | None = None
    """Exactly these passages are cited; None: not judged."""
    call: ToolCall | None = None
    json: Json | None = None

    def is_right(self, text: str, calls: Sequence[ToolCall]) -> bool:
        """Judges an answer: its text without the calls, and the calls."""
        if self.call is not None:
            return [call.name for call in calls] == [self.call.name] and _is_same(
                self.call.arguments, calls[0].arguments
            )
        if calls or not text.strip():
            return False
        if self.json is not None:
            try:
                return _is_same(self.json, json.loads(text))
            except ValueError:
                return False
        if self.cites is not None and self.cites != {int(n) for n in re.findall(r"\[(\d+)]", text)}:
            return False
        return all(any(occurs(phrase, text) for phrase in phrases) for phrases in self.says) and (
            not any(occurs(phrase, text) for phrase in self.never_says)
        )


def occurs(phrase: str, text: str) -> bool:
    """Is `phrase` in `text`, without case, and not as a part of a longer word or number?"""
    pattern = rf"(?<!\w)(?<!\d[.,:]){re.escape(phrase)}(?!\w)(?![.,:]\d)"
    return re.search(pattern, text, re.IGNORECASE) is not None


def cases() -> Iterator[Case]:
    """All of them, in a fixed order."""
    for block in _blocks(_DOCUMENTS):
        yield from _about_passages(block)
    for block in _blocks(_TOOLS):
        yield from _with_tools(block)
    for block in _blocks(_JSON_ANSWERS):
        yield from _json_answers(block)
    for category, table in (("recall", _RECALL), ("greeting", _GREETINGS)):
        for line in _blocks(table)[0]:
            said, _, right = line.partition(" => ")
            right, _, wrong = right.partition(" ! ")
            forbidden = _alternatives(wrong) if wrong else ()
            yield Case(category, Conversation(_chat(said)), _phrases(right), forbidden)


def _blocks(table: str) -> list[list[str]]:
    blocks = table.strip("\n").split("\n\n")
    return [block.replace("\n  ", " ").split("\n") for block in blocks]


def _about_passages(block: Sequence[str]) -> Iterator[Case]:
    passages: list[Passage] = []
    for line in block:
        if line.startswith("> "):
            title, bar, text = line[2:].partition(" | ")
            passages.append(Passage(text, title) if bar else Passage(title))
            continue
        kind, _, rest = line.partition(": ")
        question, arrow, right = rest.partition(" => ")
        asked = Conversation((Turn("user", question_with_passages(question, passages)),))
        if arrow:
            values, _, number = right.rstrip("]").rpartition(" [")
            cites = frozenset({int(number)})
            yield Case(f"grounded, {kind}", asked, _phrases(values), cites=cites)
        else:
            yield Case(f"unanswerable, {kind}", asked, (_DECLINES,), cites=frozenset())


def _with_tools(block: Sequence[str]) -> Iterator[Case]:
    tools = tuple(_tool(line[2:]) for line in block if line.startswith("@ "))
    written = tuple(f'"{tool["function"]["name"]}"' for tool in tools)  # a call gone wrong
    for line in block[len(tools) :]:
        message, call, *result = line.split(" => ")
        asked = _chat(message)
        name, _, arguments = call.partition(" ")
        if call == "no call":
            yield Case("no tool", Conversation(asked, tools), never_says=written)
        elif result:
            called = Turn("assistant", "", calls=(ToolCall(name, json.loads(arguments)),))
            turns = (*asked, called, Turn("tool", result[0]))
            yield Case("tool result", Conversation(turns, tools), _phrases(result[1]), written)
        else:
            expected = ToolCall(name, _spellings(json.loads(arguments)))
            yield Case("tool call", Conversation(asked, tools), call=expected)


def _json_answers(block: Sequence[str]) -> Iterator[Case]:
    raw = block[0].startswith("{")
    schema = json.loads(block[0]) if raw else {**_object(block[0]), "additionalProperties": False}
    for line in block[1:]:
        said, _, answer = line.partition(" => ")
        messages = with_schema([turn.message() for turn in _chat(said)], schema)
        turns = tuple(Turn(message["role"], message["content"]) for message in messages)
        yield Case("json answer", Conversation(turns), json=_spellings(json.loads(answer)))


def _chat(said: str) -> tuple[Turn, ...]:
    """`user / assistant / user`, perhaps behind `system: … /`."""
    system = (Turn("system", said[8:].split(" / ")[0]),) if said.startswith("system: ") else ()
    spoken = enumerate(said.split(" / ")[len(system) :])
    return (*system, *(Turn("assistant" if i % 2 else "user", text) for i, text in spoken))


def _tool(line: str) -> Json:
    """`name | description | parameters`, in OpenAI's form."""
    name, description, *fields = line.split(" | ")
    parameters = _object(*fields) if fields else {"type": "object", "properties": {}}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def _object(fields: str) -> Json:
    """The schema of `name: type, description; name?: one/other; name: type[]`; ? means optional."""
    properties: Json = {}
    for field in fields.split("; "):
        name, _, rest = field.partition(": ")
        kind, _, description = rest.partition(", ")
        schema: Json = {"type": kind}
        if "/" in kind:
            schema = {"type": "string", "enum": kind.split("/")}
        elif kind.endswith("[]"):
            schema = {"type": "array", "items": {"type": kind[:-2]}}
        properties[name] = {**schema, "description": description} if description else schema
    required = [name for name in properties if not name.endswith("?")]
    properties = {name.rstrip("?"): schema for name, schema in properties.items()}
    return {"type": "object", "properties": properties, "required": required}


def _phrases(values: str) -> tuple[tuple[str, ...], ...]:
    return tuple(_alternatives(value) for value in values.split(" & "))


def _alternatives(value: str) -> tuple[str, ...]:
    return tuple(spelling.strip() for spelling in value.split("|"))


def _spellings(value: Any) -> Any:  # Any: JSON, in which "a|b" becomes a tuple
    if isinstance(value, dict):
        return {key: _spellings(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spellings(item) for item in value]
    return _alternatives(value) if isinstance(value, str) and "|" in value else value


def _is_same(expected: Any, given: Any) -> bool:  # Any: JSON
    if isinstance(expected, tuple):
        if given is None or isinstance(given, str):
            return (given or "").casefold() in {spelling.casefold() for spelling in expected}
        return False
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        keys = expected.keys() | given.keys()
        return all(_is_same(expected.get(key), given.get(key)) for key in keys)
    if isinstance(expected, list) and isinstance(given, list):
        return len(expected) == len(given) and all(map(_is_same, expected, given))
    return isinstance(expected, bool) == isinstance(given, bool) and expected == given


_DECLINES = tuple(
    f"{start} {verb}"
    for start in ("do not", "don't", "does not", "doesn't", "did not", "could not", "cannot")
    for verb in ("say", "contain", "mention", "state", "tell", "answer", "include", "find", "know")
) + ("not in the passages", "no passage", "none of the passages", "no answer", "not mentioned")

# `> title | text` or `> text` is a passage; then questions, `kind: question => values [passage]`.
# close, rephrased, hard: how far the question's words are from the passage's. obvious, near: the
# passages have no answer; near asks for another attribute of the same, or the same of another.
_DOCUMENTS = """
> Visitors | Guests sign in at the front desk and wear a badge for as long as they are in the
  building. Their host collects them there; nobody walks upstairs alone.
> Kitchen | Please empty the dishwasher when it is done. The fridge is cleared out every second
  Friday, and whatever has no name on it goes in the bin.
> Heating | It goes off at 19:00. If you stay longer, ask Marek from facilities to extend it.
close: Where do guests sign in? => front desk [1]
rephrased: Who can keep the heating on when I work late? => Marek [3]
hard: How often do you throw out old food? => every second Friday [2]
near: At what time does the heating come on in the morning?

> The Burrwell 40 is a hand grinder with steel burrs and 24 settings. It weighs 480 g, holds 35 g of
  beans and comes with a cotton pouch.
close: How many settings does the Burrwell 40 have? => 24 [1]
rephrased: How heavy is this grinder? => 480 g|480 grams|480g [1]
near: How long does it take the Burrwell 40 to grind 35 g?

> Starters | Leek and potato soup with rye bread, 6.50. Smoked trout on cucumber, 9.80.
> Mains | Venison stew with red cabbage, 21.00. Mushroom risotto, vegan on request, 16.50.
> Sweets | Plum tart is baked every morning; a slice is 4.20. Our ice cream comes from the Hofer
  dairy in the next village.
close: What does the mushroom risotto cost? => 16.50|16.5 [2]
rephrased: What do you serve with the venison? => red cabbage [2]
hard: Who makes your ice cream? => Hofer [3]
near: How much is the ice cream?
obvious: Which bus goes to the stadium?

> Standup 3 June | Ngozi finished the import of old invoices. Tobias waits for a test account.
> Decisions | We move the release from Thursday to Monday because the translations are late. Ana
  informs support.
> Next steps | Tobias calls the bank, Priya writes the migration guide, and Lena books a room for
  the retrospective.
close: Who writes the migration guide? => Priya [3]
rephrased: Who is going to let support know? => Ana [2]
hard: What is the reason for the delay? => translations [2]
near: Who writes the release notes?
obvious: What is the best recipe for apple crumble?

> Getting there | The night ferry from Harwich arrives at 8 am. It is ten minutes by tram from the
  port to the old town.
> Money | Cards are taken nearly everywhere, but stalls on the market want cash.
> Tram | A single ticket is 2.90 euros and valid for 75 minutes. Drivers do not sell any.
> Museum | Closed on Mondays. Admission is free on the first Sunday of the month.
> Where to stay | The youth hostel in Canal Street has 60 beds and lends bicycles to its guests.
close: How long is a single ticket valid? => 75 minutes [3]
rephrased: On which day of the week can't I visit the museum? => Monday|Mondays [4]
hard: Where could we borrow a bike? => hostel [5]
near: How much is a bed in the youth hostel?
obvious: Do I have to get vaccinated?

> Early years | Ilse Brandvold was born in 1931 in Tromsø, the youngest of five children of a
  lighthouse keeper. She left school at fourteen to work in a cannery.
> Her books | Her first novel, Salt Harbour, was turned down by eleven publishers before it came out
  in 1962. She wrote nine more and died in Bergen in 2004.
close: In which year was Ilse Brandvold born? => 1931 [1]
rephrased: What is the title of her first book? => Salt Harbour [2]
hard: What did her father do for a living? => lighthouse keeper [1]
obvious: How do I reset my password?

> 4.2.0 | Exports can now be scheduled. The minimum version of Node is 20.
> 4.1.3 | Fixes a crash when a column name contained an apostrophe.
> 4.1.0 | The /v1/rows endpoint is gone; call /v2/records instead. Uploads may have up to 250 MB.
close: What is the minimum version of Node? => 20 [1]
rephrased: What should I use now that /v1/rows was removed? => /v2/records [3]
near: What is the minimum version of Python?

> Your guarantee covers faults in material and workmanship for 36 months from the day of purchase.
  Batteries are covered for six months only. Without the receipt we cannot accept a claim.
close: How long are batteries covered? => six months|6 months [1]
rephrased: What do I have to show you when I make a claim? => receipt [1]
obvious: Who is singing at the festival tonight?

> Authentication | Send your token in the X-Parcel-Token header. Tokens expire after 12 hours.
> Paging | Lists return 50 items. Pass the cursor from next_page to get more.
> Rate limits | Each account may make 300 calls a minute. Beyond that we answer with status 429.
> Webhooks | We post events to your URL, signed with HMAC-SHA256, and retry five times if it does
  not answer.
close: Which header do I send my token in? => X-Parcel-Token [1]
rephrased: How many requests per minute are allowed? => 300 [3]
hard: How often do you try again when my server is down? => five|5 [4]
near: When does the cursor expire?

> Opening hours | Monday to Friday 6:30 to 22:00, weekends 9:00 to 18:00. The sauna is for adults.
> Membership | 39 a month with four weeks' notice. Students pay 27 a month. The joining fee of 25 is
  waived in January.
close: How much do students pay? => 27 [2]
rephrased: In which month is there no fee for joining? => January [2]
obvious: Why did the Roman empire fall?

> Calathea | Likes shade and damp air. Water it twice a week. Its leaves fold up at night.
> Aloe | Wants full sun and hardly any water, and survives a forgetful owner. The gel soothes burns.
> Monstera | Its sap is poisonous to cats and dogs. Give it a pole to climb.
close: How often should I water the calathea? => twice a week [1]
rephrased: Which plant is dangerous for my cat? => Monstera [3]
near: How often should I water the monstera?

> Dear parents, the trip to the Roman fort is on 9 May. The coach leaves at 7:45 from Mill Lane.
  Please give your child a packed lunch and 8 pounds for the entrance.
close: When does the coach leave? => 7:45 [1]
rephrased: How much money does my daughter need? => 8 pounds|£8|8 [1]
obvious: What is the battery life of this phone?

> Returns | You can send anything back within 30 days. The refund is on your card five working days
  after we have received the parcel.
> Delivery | Orders placed before noon leave our warehouse in Tilburg the same day. Standard
  delivery is free above 40 euros.
> Gift cards | They never expire, but cannot be exchanged for cash.
close: Within how many days can I send something back? => 30 [1]
rephrased: From what amount on is shipping free? => 40 [2]
hard: In which town do you keep your goods? => Tilburg [2]
near: How much is express delivery?
obvious: Which university did the mayor attend?

> Kelmore has 11,400 inhabitants and lies on the river Aske. A market has been held since 1348.
> The stone bridge was built by Agnes Thorley in 1771, after a flood had carried away the wooden
  one. It has seven arches.
close: How many inhabitants does Kelmore have? => 11,400|11400 [1]
rephrased: Who was the builder of the bridge? => Agnes Thorley|Thorley [2]
near: How long is the stone bridge?
obvious: Is there a discount for students?

> VPN | Install the client from the software centre and log in with your staff number.
> Passwords | A password lasts 180 days. After six wrong attempts it is locked for half an hour.
> Printers | The colour printer on floor 3 is called Magpie. Scans go to your mailbox.
close: What is the colour printer called? => Magpie [3]
hard: I mistyped my login too often. How long am I shut out? => half an hour|30 minutes [2]

> Keynote | Dr Amara Osei opens the conference at 9:15 in the Great Hall with a talk on soil.
> Workshop A | Compost for beginners, with Jonas Lindqvist. Room 204, for up to 18 people.
> Workshop B | Seed saving, with Rosa Marchetti. Room 117; bring a jar.
> Lunch | From 12:30 in the courtyard, in the library if it rains.
> Closing | The prize for the best poster, a wheelbarrow, is handed over at 17:00.
rephrased: How many can take part in the compost workshop? => 18 [2]
hard: Where do we eat in bad weather? => library [4]
hard: What does the winner of the poster contest get? => wheelbarrow [5]
obvious: How often must the oil filter be changed?
"""

# `@ name | description | parameters` is a tool; then `message => call`, `message => no call`, or
# `message => call => result => values`.
_TOOLS = """
@ get_weather | Get the current weather for a location. | location: string, City name;
  unit?: celsius/fahrenheit
What's the weather like in Oslo? => get_weather {"location": "Oslo|Oslo, Norway",
  "unit": "celsius|"}
How hot is it in Phoenix? In fahrenheit please => get_weather {"location": "Phoenix|Phoenix, AZ|
  Phoenix, Arizona", "unit": "fahrenheit"}
do i need an umbrella in Galway today => get_weather {"location": "Galway|Galway, Ireland"}
Could you tell me a joke? => no call
Is it cold in Tallinn? => get_weather {"location": "Tallinn"}
  => {"temperature": -11, "unit": "celsius", "condition": "snow"}
  => -11|minus 11 & snow|snowing|snowy

@ search_products | Search the catalogue | query: string; max_price?: number, In euros
@ get_order_status | Look up where an order is | order_id: string
@ return_order | Start a return | order_id: string; reason: string
@ check_stock | Units in the warehouse | sku: string
Do you sell waterproof hiking boots? => search_products {"query": "waterproof hiking boots"}
I'm looking for a desk lamp for at most 40 euros => search_products {"query": "desk lamp|a desk
  lamp", "max_price": 40}
where is my order A-20931?? => get_order_status {"order_id": "A-20931"}
I'd like to send back order A-18872. The sleeves are too short. => return_order {"order_id":
  "A-18872", "reason": "The sleeves are too short.|The sleeves are too short|sleeves are too short|
  sleeves too short|too short"}
How many of TK-440-B are left? => check_stock {"sku": "TK-440-B"}
Thanks, that was all I needed! => no call
How long have you been working here? => no call
Has order C-55 gone out yet? => get_order_status {"order_id": "C-55"}
  => {"order_id": "C-55", "status": "shipped", "carrier": "Nordpost"} => shipped
Is TK-112 available? => check_stock {"sku": "TK-112"} => {"sku": "TK-112", "units": 37} => 37

@ create_ticket | Open a support ticket | title: string; priority: low/medium/high
@ close_ticket | Close a ticket | ticket_id: integer
Open a high priority ticket with the title "Printer out of toner" => create_ticket {"title":
  "Printer out of toner", "priority": "high"}
ticket 4417 is solved, you can close it => close_ticket {"ticket_id": 4417}
Low priority, but the door of room 8 squeaks. Make a ticket please. => create_ticket {"title":
  "the door of room 8 squeaks|the door of room 8 squeaks.|door of room 8 squeaks|squeaky door in
  room 8|squeaking door in room 8", "priority": "low"}
Which of us is smarter, you or me? => no call

@ book_meeting | Book a meeting in the calendar | title: string; date: string, YYYY-MM-DD;
  time: string, HH:MM; attendees: string[]
@ cancel_meeting | Cancel a meeting | meeting_id: string
@ find_free_slot | When is somebody free? | person: string; minutes: integer
Book a meeting "Budget review" on 2026-03-12 at 14:00 with Hanna and Yusuf => book_meeting {"title":
  "Budget review", "date": "2026-03-12", "time": "14:00", "attendees": ["Hanna", "Yusuf"]}
We have to cancel m-771, sorry => cancel_meeting {"meeting_id": "m-771"}
When does Farid have 45 minutes for me? => find_free_slot {"person": "Farid", "minutes": 45}
Good morning! Did you sleep well? => no call
What is a retrospective good for? => no call
When could I see Imke for half an hour? => find_free_slot {"person": "Imke", "minutes": 30}
  => {"person": "Imke", "from": "15:30", "to": "16:00"} => 15:30

@ convert_currency | Convert an amount between currencies | amount: number;
  from_currency: string, ISO 4217 code; to_currency: string, ISO 4217 code
How much is 250 USD in EUR? => convert_currency {"amount": 250, "from_currency": "USD",
  "to_currency": "EUR"}
convert 99.5 swiss francs to yen => convert_currency {"amount": 99.5, "from_currency": "CHF",
  "to_currency": "JPY"}
Who invented paper money? => no call
What do I get for 80 GBP in SEK? => convert_currency {"amount": 80, "from_currency": "GBP",
  "to_currency": "SEK"} => {"amount": 1042.4, "currency": "SEK"} => 1042.4|1,042.4|1042.40|1,042.40

@ send_email | Send an email | to: string; subject: string; body: string
@ add_contact | Save a phone number | name: string; phone: string
Mail jo@larkspur.example, subject "Keys", text: They are under the mat. => send_email {"to":
  "jo@larkspur.example", "subject": "Keys", "body": "They are under the mat.|
  They are under the mat"}
Save Miriam's number, it's 555-0142 => add_contact {"name": "Miriam", "phone": "555-0142"}
I feel a bit lonely today. => no call

@ set_temperature | Heat a room | room: string; degrees: number
@ switch_light | Switch a lamp | room: string; state: on/off
@ play_music | Play something | artist: string
Turn off the light in the hallway => switch_light {"room": "hallway|the hallway", "state": "off"}
make it 19.5 degrees in the bedroom => set_temperature {"room": "bedroom|the bedroom",
  "degrees": 19.5}
Lights on in the kitchen! => switch_light {"room": "kitchen|the kitchen", "state": "on"}
I'm in the mood for some Nina Simone => play_music {"artist": "Nina Simone"}
What is the capital of Chad? => no call
Please water the tomatoes. => no call

@ search_flights | Find flights | origin: string; destination: string; date: string, YYYY-MM-DD;
  passengers?: integer
@ book_taxi | Order a taxi | pickup: string; time: string
Flights from Lisbon to Zurich on 2026-08-21 for two people please => search_flights {"origin":
  "Lisbon", "destination": "Zurich", "date": "2026-08-21", "passengers": 2}
I need a cab from Hotel Miramar at 6:15 => book_taxi {"pickup": "Hotel Miramar|the Hotel Miramar",
  "time": "6:15|06:15|6:15 am|6:15am"}
how can I get from Riga to Malta on 2026-10-02? => search_flights {"origin": "Riga", "destination":
  "Malta", "date": "2026-10-02"}
Taxi to pick me up in Birch Road 7 at 22:40 => book_taxi {"pickup": "Birch Road 7", "time":
  "22:40"} => {"booked": true, "driver": "Selim", "price": 18.5} => Selim|18.5|18.50

@ record_hive | Log a beehive's inspection | hive: integer; frames: integer; queen_seen: boolean
Inspected hive 12: 7 frames of brood, and I saw the queen => record_hive {"hive": 12, "frames": 7,
  "queen_seen": true}
hive 3 has five frames, couldn't find the queen => record_hive {"hive": 3, "frames": 5,
  "queen_seen": false}
hive 21 today: 9 frames, queen seen => record_hive {"hive": 21, "frames": 9, "queen_seen": true}
Do bees sleep? => no call

@ quote_pallets | Price of a shipment | pallets: integer; postcode: string; tail_lift?: boolean
@ track_parcel | Where a parcel is now | tracking_number: string
@ report_damage | Report damaged goods | tracking_number: string; severity: minor/major/total
What would it cost to ship 6 pallets to 34117? => quote_pallets {"pallets": 6, "postcode": "34117"}
Quote for 2 pallets to postcode 9020, with a tail lift => quote_pallets {"pallets": 2, "postcode":
  "9020", "tail_lift": true}
Any news of JX0077431NL? => track_parcel {"tracking_number": "JX0077431NL"}
JX5512 came with minor damage => report_damage {"tracking_number": "JX5512", "severity": "minor"}
You are much faster than the last bot. => no call
Where is RB81? => track_parcel {"tracking_number": "RB81"} => {"place": "Gdansk", "eta":
  "2026-04-09"} => Gdansk
Price for 4 pallets to 1050? => quote_pallets {"pallets": 4, "postcode": "1050"} => {"price": 312,
  "currency": "EUR"} => 312

@ list_tables | The tables of the database
@ run_query | Run a query in SQL and return its rows | sql: string
@ restart_service | Restart a service | service: string; environment: staging/production
Which tables do we have? => list_tables {}
run this: select count(*) from users => run_query {"sql": "select count(*) from users"}
restart billing-worker on staging => restart_service {"service": "billing-worker", "environment":
  "staging"}
lol ok => no call
Which tables exist? => list_tables {} => {"tables": ["users", "visits"]} => users & visits

@ reserve_table | Reserve a table | name: string; people: integer; time: string
@ get_menu | The dishes of a day | day: monday/tuesday/wednesday/thursday/friday
A table for 4 at 19:30 please, the name is Okafor => reserve_table {"name": "Okafor", "people": 4,
  "time": "19:30"}
I'd like a table tonight. / Sure. How many people, when, and under which name? / 6 people at 20:15,
  Lindgren => reserve_table {"name": "Lindgren", "people": 6, "time": "20:15"}
what's for lunch on Wednesday? => get_menu {"day": "wednesday"}
My grandmother was a wonderful cook. => no call

@ request_leave | Ask for holidays | employee_id: string; first_day: string; last_day: string
@ get_leave_balance | Days of holiday that are left | employee_id: string
E-2207 wants to be off from 2026-07-06 to 2026-07-17 => request_leave {"employee_id": "E-2207",
  "first_day": "2026-07-06", "last_day": "2026-07-17"}
How many days off does E-1450 still have? => get_leave_balance {"employee_id": "E-1450"}
I can't stand Mondays. => no call
Days left for E-9? => get_leave_balance {"employee_id": "E-9"} => {"days": 12.5} => 12.5
"""

# A schema, as the parameters of a tool or written out; then `chat => answer`. In a chat, ` / `
# separates the turns of the user and of the assistant.
_JSON_ANSWERS = """
name: string; age: integer; city: string
Maren Holt is 42 and lives in Aarhus. => {"name": "Maren Holt", "age": 42, "city": "Aarhus"}
system: Extract the person. / My neighbour Luis, 67 years old, has just moved to Cork. => {"name":
  "Luis", "age": 67, "city": "Cork"}

product: string; price: number; in_stock: boolean
The Tarn kettle costs 34.90 euros and is available right away. => {"product": "Tarn kettle|The Tarn
  kettle", "price": 34.9, "in_stock": true}
Sorry, the folding bike for 410 is sold out. => {"product": "folding bike|the folding bike",
  "price": 410, "in_stock": false}

sentiment: positive/neutral/negative
It arrived broken and nobody answers my mails. => {"sentiment": "negative"}
system: Classify the review. / Best umbrella I have ever owned! => {"sentiment": "positive"}
The parcel was delivered on Tuesday. => {"sentiment": "neutral"}

department: billing/technical/sales; urgent: boolean
I was charged twice for March, fix this today please!! => {"department": "billing", "urgent": true}
No hurry, but what would fifty licences cost us? => {"department": "sales", "urgent": false}

present: string[]; absent: string[]
Minutes: present were Odile, Kwame and Petra. Sven was absent. => {"present": ["Odile", "Kwame",
  "Petra"], "absent": ["Sven"]}

items: string[]
Turn my shopping list into JSON: oat milk, candles, lemons => {"items": ["oat milk", "candles",
  "lemons"]}

date: string, YYYY-MM-DD; amount: number; currency: EUR/USD/GBP
system: You read invoices. / Invoice of 2026-02-17, total 1280.50 EUR, due in 14 days. => {"date":
  "2026-02-17", "amount": 1280.5, "currency": "EUR"}

flight: string; gate: string; delay_minutes: integer
Flight BX318 now leaves from gate C7, 25 minutes late. => {"flight": "BX318", "gate": "C7",
  "delay_minutes": 25}

{"type": "object", "properties": {"customer": {"type": "object", "properties": {"name": {"type":
  "string"}, "email": {"type": "string"}}, "required": ["name", "email"], "additionalProperties":
  false}, "seats": {"type": "integer"}}, "required": ["customer", "seats"], "additionalProperties":
  false}
Ruth Adeyemi (ruth@quay.example) wants 3 seats. => {"customer": {"name": "Ruth Adeyemi", "email":
  "ruth@quay.example"}, "seats": 3}

{"type": "object", "title": "Order", "properties": {"lines": {"type": "array", "title": "Lines",
  "items": {"type": "object", "properties": {"sku": {"type": "string", "title": "Sku"}, "quantity":
  {"type": "integer", "title": "Quantity"}}, "required": ["sku", "quantity"]}}}, "required":
  ["lines"]}
Please send us 12 of K-100 and 5 of M-20. => {"lines": [{"sku": "K-100", "quantity": 12}, {"sku":
  "M-20", "quantity": 5}]}
"""

# `chat => phrases`, or `chat => phrases ! forbidden|phrases`.
_RECALL = """
Hi, I'm Solveig. / Hello Solveig, good to meet you. / What's my name? => Solveig
my name is Anatol btw / Hello Anatol! / can you open files? / No, I cannot open files. / do you
  still know what i'm called => Anatol
My name is Tom. / Hello Tom! / Oops, typo: I'm Tim, not what I wrote first. / Hello Tim! / So who am
  I? => Tim ! Tom
I'm Carla and my brother is Enzo. / Nice to meet you, Carla. / Tell me my name. => Carla ! Enzo
I moved from Graz to Leeds last year. / I see. / In which city do I live now? => Leeds
Greetings from Valparaíso! / Hello! / Where am I writing to you from? => Valparaíso|Valparaiso
My favourite colour has always been mustard. / Noted. / so what's my favourite color? => mustard
Keep the number 58213 in mind for me. / I will. / Which number did I give you? => 58213|58,213
My door code is 4471, and my wife's is 9920. / All right. / What is the door code of my wife?
  => 9920 ! 4471
The magic word is cumulus. / I will remember it. / Thanks! / You are welcome. / And what was the
  magic word? => cumulus
We have two cats, Pixel and Biscuit. / How nice. / What are our cats called? => Pixel & Biscuit
I work at Birkwood Logistics as a planner. / I see. / Which company do I work for? => Birkwood
I'm a beekeeper, by the way. / Interesting! / How are you? / I am running well. / What do I do for a
  living? => beekeeper
We fly on 19 May. / Have a good trip! / Remind me, on which date is our flight? => 19 May|May 19
Please say the following sentence: The lamp is under the stairs. => the lamp is under the stairs
"""

_GREETINGS = """
Good morning! => hello|hi|good morning
hey there, anyone home? => hello|hi|hey|demonstration model
system: You are a helpful assistant. / Hello! => hello|hi
how are you doing today? => running well
And who might you be? => demonstration model
system: You are a helpful assistant. / Tell me who you are. => demonstration model
Am I talking to a real human being? => not a person
are you chatgpt or claude or something => demonstration model|much smaller model
How large is this model? => three million|3 million|3.3 million|3.5 million
That helped a lot, thanks so much! => welcome
See you tomorrow! => goodbye|bye|see you
Can we talk in Italian? => only speak English
can you google something for me => no internet access
Should I trust everything that you tell me? => can be wrong
Hi! / Hello! How can I help? / Do you ever make mistakes? => can be wrong|make mistakes
"""
