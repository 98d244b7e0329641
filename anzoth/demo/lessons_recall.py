"""What can the bundled model be told and asked back within one conversation?

These are the lessons in copying: the value is new each time, so it can only be found by looking
back. Saying words after the user is the same skill in its simplest form and is learnt first.
"""

# ruff: noqa: E501  (one pattern or one answer a line reads better than wrapped strings)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Slot:
    """One thing to remember. `<value>` marks it in every text."""

    name: str
    value: str
    """A pattern over VALUES."""
    tells: tuple[str, ...]
    acknowledgements: tuple[str, ...]
    asks: tuple[str, ...]
    recalls: tuple[str, ...]
    unknown: str
    """The answer when it was asked for but never told."""


VALUES: Mapping[str, str] = {
    "first": "[A|Be|Ca|Da|E|Fa|Ga|Hu|I|Jo|Ka|Le|Ma|Ni|O|Pe|Ra|Sa|Te|U|Vi|Wa|Yo|Za|Bri|Cla|Fre|Gri|Sta|Tri|An|El|Or|Is|Mar|Ben|Lin|Tom|Sam|Max|Kim|Ron|Jan|Tim]",
    "middle": "[||la|ri|no|mi|ta|lo|ne|da|sa|vi|ra|ke|li|bo|nu|the|cha|ro]",
    "last": "[n|na|ra|s|l|r|la|x|th|na|no|rt|ck|k|m|y|ie|i|a|o|e|ia|us|en|ette|mar]",
    "c": "[b|c|d|f|g|h|j|k|l|m|n|p|q|r|s|t|v|w|x|y|z|th|sh|ch|st|br|ll|nd|rt]",
    "v": "[a|a|e|e|i|i|o|o|u|y|ea|ou|ai]",
    "letters": "{c}{v}{c}[|{v}][|{c}{v}][|{c}]",
    "syllables": "[{first}{middle}{last}|{first}{middle}{middle}{last}|{letters}|{first}{letters}]",
    "person": "[{syllables}|{syllables}|{syllables}|Anna|Ben|Maria|John|Peter|Lena|Sarah|Tom|Julia|David|Emma|Alice|Bob|Mike|Laura|Ahmed|Yuki|Carlos|Ivan|Sofia|Liam|Olivia|Noah|Mia|Lucas|Chloe|Omar|Priya|Wei|Fatima|Paul|Nina|Max|Eva|Jack|Grace|Leo|Hannah|Kate|Alex|Chris|Daniel|Robert|James|Mary|Linda|Frank|George]",
    "place": "[{syllables}|{syllables}|Paris|London|Berlin|Rome|Tokyo|Madrid|Vienna|Cairo|Lima|Oslo|Boston|Sydney|Munich|Zurich|Prague|Dublin|Seoul|Toronto]",
    "color": "[red|blue|green|yellow|black|white|purple|orange|pink|brown|grey|turquoise|violet|gold|silver]",
    "noun": "[water|paper|orange|pencil|summer|winter|doctor|kitten|basket|coffee|sugar|mountain|ocean|diamond|feather|ladder|magnet|needle|pillow|ribbon|saddle|thunder|umbrella|velvet|walnut|zebra|apple|river|candle|window|tiger|bridge|cloud|garden|rocket|piano|forest|lemon|mirror|anchor|pepper|castle|button|island|hammer|violin|{syllables}|{syllables}|{syllables}]",
    "d": "[0|1|2|3|4|5|6|7|8|9]",
    "digits": "[1|2|3|4|5|6|7|8|9][|{d}|{d}{d}|{d}{d}{d}]",
}

SLOTS = (
    Slot(
        "name",
        "{person}",
        (
            "[my name is|I am|I'm|call me|my name's|this is|I am called|you can call me|the name is|please call me|name's|im] <value>",
            "[hi|hello|hey|good morning|hey there|hello there], [my name is|I am|I'm|this is|I'm called|im] <value>",
            "<value> [here|is my name]",
            "[hi|hello|hey|hi there|good morning|so|well][,|!|] [my name is|I am|I'm|call me|this is|im] <value>",
            "[my name is|I am|I'm|I am called|they call me|people call me|everybody calls me] <value>[, nice to meet you|, pleased to meet you|, how are you|, good to be here|, and you| and I am new to this| and this is my first day]",
            "[my name is|I am|I'm|this is|call me] <value>[, a developer|, and I have a question|, glad to be here| and I work with models|, I am new here| by the way|, hello]",
        ),
        (
            "Hello <value>! What would you like to know about Anzoth?",
            "Nice to meet you, <value>! How can I help you with Anzoth?",
        ),
        (
            "[what is|what's|whats|do you [know|remember]|tell me|can you tell me|say|did you forget|what was|do you still know] my name [again|]",
            "[do you|can you|could you|did you] [know|still know|recall|remember|tell me|say] [what my name is|what I am called|what I'm called|my name|how I am called|the name I gave you|who I am]",
            "[what did I say|which name did I give you|what did I tell you|how did I introduce myself|what was the name I told you][ my name was|]",
            "[and|so|ok,|now,|well,] [what|what's|what was|who] [is my name|my name|am I|was my name]",
            "[who am I|do you know who I am|what am I called|how am I called|what do you call me|remember me?|do you remember who I am]",
        ),
        ("Your name is <value>.",),
        "You have not told me your name yet.",
    ),
    Slot(
        "city",
        "{place}",
        (
            "I [live|work] in <value>",
            "[I am|I'm] [from|living in] <value>",
            "[my home is|my city is|my home town is|I moved to|my hometown is] <value>",
        ),
        ("<value>, noted.",),
        (
            "[where|in which city|in what city] do I [live|work]",
            "[where am I from|what is my city|do you know where I live|do you remember where I live|which city do I live in]",
        ),
        ("You said <value>.",),
        "You have not told me where you live.",
    ),
    Slot(
        "color",
        "{color}",
        (
            "my [favourite|favorite] [color|colour] is <value>",
            "[I like|I love|I prefer] the [color|colour] <value>",
        ),
        ("<value>, noted.",),
        (
            "[what is|what's|do you know|do you remember|tell me] my [favourite|favorite] [color|colour]",
            "[which|what] [color|colour] [do I [like|love|prefer]|is my favourite|did I say I like|was my favourite]",
        ),
        ("You said <value>.",),
        "You have not told me your favourite colour.",
    ),
    Slot(
        "word",
        "[{noun}|{noun}|{digits}]",
        (
            "[please|can you|could you|] [remember|keep|note down|memorize|learn] [the word|the number|the name|this word|this number|the code|] <value>[ for me|]",
            "[remember|please remember|keep in mind|note|memorize|don't forget] [the word|the number|the code|the password|this:|] <value>",
            "the [secret word|code|password|secret number|magic word|secret|code word] is <value>",
        ),
        ("I will remember <value>.",),
        (
            "[and|so|ok,|now,|] [what|which one|which number|what number|which word] was [it|it again|that|the word|the number|the one I told you]",
            "[what|which] [word|number|code|thing] [did I ask you to remember|should you remember|did I tell you|was it]",
            "[what is|what's|what was|tell me|do you remember|do you know] the [secret word|code|password|secret number|magic word|secret|number|word|code word]",
        ),
        ("It was <value>.",),
        "You have not told me anything to remember.",
    ),
)

ECHO = (
    "[say|repeat|echo|please say|please repeat|can you say|now say] <value>",
    "[repeat after me|please repeat after me|now repeat after me|say after me|speak after me|repeat exactly]: <value>",
    "[repeat after me|say this|repeat this|echo this|say exactly this|repeat the following|write|say the following]: <value>",
    "[say|repeat] [the word|the words|] '<value>'",
)
ECHO_VALUE = "[{noun}|{person}|{digits}|{color} {noun}|{noun} {noun} {noun}|{noun} {digits}|{person} and {person}|{syllables} {syllables}|{digits} {digits} {digits}|{color} {color} {noun} {digits}]"

SYSTEM = (
    "You are [a helpful|a friendly|an honest|a concise|a useful|a polite|a] [assistant|AI assistant|chatbot|bot|support agent|expert].",
    "You are [Anzoth|a helpful assistant|the assistant of {person}]. [Be brief.|Answer [briefly|politely|in one sentence|in English].|Help the user.|]",
    "[Answer|Reply] [briefly|shortly|in plain English|politely|truthfully].",
    "[Help the user with Anzoth.|Be nice.|Be concise.|Always be honest.|Do not make things up.|You help developers.|You answer questions about {noun}s.|Today is {digits}-{d}-{d}.]",
)
