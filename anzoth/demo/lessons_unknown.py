"""Which questions lie outside what the bundled model knows, and how does it say so?

A model that has only seen questions it can answer answers everything. So a share of the training
text asks about the rest of the world, widely: real nouns, invented words and plain noise.
"""

# ruff: noqa: E501  (one pattern or one answer a line reads better than wrapped strings)

from __future__ import annotations

from collections.abc import Mapping

from anzoth.demo.topic import Topic

# An invented word: a question about something that nobody has heard of must not find an answer.
_MADE = "[b|d|f|g|h|j|k|l|m|n|p|r|s|t|v|w|z|br|kl|st|tr|sch|x|qu|][a|e|i|o|u|ee|ou|y][b|d|g|k|l|m|n|r|s|t|v|x|z|nd|rt|ll][a|e|i|o|u|er|on|ix|um|y|ing|is|][n|s|t|r|k|][|||o|ia|ax]"

WORLD: Mapping[str, str] = {
    "made": _MADE,
    "country": "[France|Germany|Italy|Spain|Japan|China|India|Brazil|Canada|Peru|Egypt|Kenya|Norway|Poland|Mexico|Chile|Turkey|Greece|Austria|Australia|Portugal|Vietnam|{made}]",
    "city": "[Paris|London|Berlin|Rome|Tokyo|New York|Madrid|Vienna|Cairo|Lima|Oslo|Boston|Sydney|Moscow|Zurich|Munich|{made}]",
    "person": "[Einstein|Napoleon|Shakespeare|Mozart|the president|the pope|Cleopatra|Newton|Taylor Swift|Elon Musk|Darwin|Picasso|Messi|the king of Spain|Marie Curie|Caesar|Bach|{made}|{made}]",
    "thing": "[the moon|the sun|a whale|a car|a bicycle|the ocean|a dog|a cat|an elephant|a piano|a guitar|a house|gold|water|a black hole|gravity|photosynthesis|the Eiffel Tower|a volcano|an atom|bread|coffee|a tree|DNA|inflation|democracy|a triangle|a prime number|love|the universe|Mount Everest|a bank|a virus|quantum physics|evolution|a {made}|{made}|the {made}]",
    "food": "[a cake|pizza|pancakes|soup|pasta|rice|bread|an omelette|sushi|a salad|curry|cookies|lasagna|coffee|{made}]",
    "subject": "[history|biology|physics|chemistry|football|music|art|philosophy|economics|politics|astronomy|gardening|movies|chess|mathematics|geography|psychology|fashion|travel|sports|{made}]",
    "writing": "[poem|story|song|letter|essay|haiku|novel|speech|tweet|blog post|summary|cover letter|recipe|limerick|product description]",
    "code": "[python function|python script|program|sql query|regular expression|bash script|javascript function|sorting algorithm|html page|class in java|rust program|unit test]",
    "number": "[2|3|4|5|6|7|8|9|10|11|12|15|17|20|25|37|42|64|99|100|144|256|1000|3.5]",
    "op": "[+|-|*|/|plus|minus|times|divided by|x]",
    "lang": "[French|German|Spanish|Italian|Latin|Japanese|Chinese|Dutch|Swedish|Greek|Portuguese|{made}]",
    "noun": "[dog|cat|bird|fish|horse|cow|bee|spider|snake|frog|lion|bear|mouse|rabbit|sheep|chicken|duck|tree|flower|rose|grass|forest|river|lake|sea|island|beach|mountain|desert|cloud|storm|star|planet|comet|rocket|ship|boat|train|bus|plane|bike|wheel|road|bridge|tower|castle|church|museum|school|teacher|student|doctor|nurse|lawyer|farmer|king|queen|soldier|baby|child|brother|sister|mother|father|friend|neighbour|egg|apple|banana|tomato|potato|carrot|onion|cheese|burger|sandwich|chocolate|wine|beer|tea|salt|sugar|spoon|knife|table|chair|bed|lamp|window|door|roof|wall|garden|kitchen|shirt|shoe|hat|ring|watch|clock|book|letter|pen|camera|television|radio|guitar|drum|song|film|painting|statue|ball|game|team|bone|tooth|eye|ear|hand|foot|brain|blood|muscle|drug|vaccine|stone|metal|diamond|glass|plastic|oil|bomb|battery|robot|drone|city|village|country|market|hotel|restaurant|holiday|birthday|wedding|ghost|dragon|wizard|vampire]",
    "verb": "[eat|run|jump|swim|fly|sleep|sing|dance|cook|clean|wash|paint|draw|cut|grow|plant|buy|sell|find|lose|break|fix|open|close|build|throw|catch|kick|ride|drive|carry|hide|bite|burn|boil|melt|freeze|smell|taste|hear|see|remember|forget|marry|visit|hunt|feed|cry|laugh|smile|walk|climb|fall|win|fight|die|live|hurt|shine|move|breathe]",
    "adj": "[big|small|old|young|new|fast|slow|good|bad|cheap|expensive|famous|rich|poor|strong|weak|tall|short|hot|cold|dangerous|healthy|beautiful|ugly|happy|sad|funny|smart|rare|heavy|light|deep|loud|sweet|blue|red|green]",
    "thingtodo": "[{verb} [a|the|my|an old|two] {noun}|{verb} {noun}s|{verb} with a {noun}|get a {noun} to {verb}|become a {noun}|fix {thing}|learn {lang}|play chess|tie a tie|lose weight|learn to swim|repair my bike|write a book|become rich|sleep better|get to {city}|paint {thing}|draw {thing}|buy {thing}|sell my car|cook {food}|bake {food}|make {food}|clean my kitchen|build {thing}|find {thing}|grow tomatoes|win at poker|use {made}|install {made}|delete {made}|open {made}]",
}

_SORRY = "I am a small demonstration model and I only know Anzoth."

UNKNOWN = (
    Topic(
        "unknown-fact",
        "[{thing}|{subject}|{country}|{person}|{city}|{food}|{made}|a {noun}|{noun}s|the {adj} {noun}|{verb}ing {noun}s|{made} {made}|the {made}|the history of {country}|the weather in {city}|{subject} and {subject}]",
        (
            "[what is|what's|whats] the [capital|population|currency|flag|president|area|language|history|biggest city|weather|temperature|time] [of|in] [{country}|{city}]",
            "[capital|population|currency|president|history] of {country}",
            "[what is|what's|what are|define|explain|describe|tell me about|what do you know about|do you know] {thing}",
            "[who is|who was|who's|tell me about|what did|where was|do you know] {person} [born|do|famous for|]",
            "[when|where] [was|did|is] [{person}|{thing}] [born|die|invented|discovered|built|live|]",
            "how [tall|old|far|big|heavy|deep|fast|long|expensive|hot|rich] is [{thing}|{person}|{city}|{country}]",
            "how many [people live in {city}|people live in {country}|legs does {thing} have|planets are there|days are in a year|bones does a human have|{made} are there]",
            "who [won|wins|lost] the [world cup|election|game|war|race|nobel prize|super bowl|{made}] [last year|in 2022|in 1998|yesterday|]",
            "who [invented|discovered|wrote|painted|composed|founded|killed|directed] [{thing}|Hamlet|the telephone|the Mona Lisa|Harry Potter|penicillin|Star Wars|{made}]",
            "why is [the sky blue|the grass green|{thing} so expensive|{thing} important|the sea salty|{person} famous|the sun hot]",
            "[tell me|teach me|explain|I want to know|give me] [something|a fact|everything|more|news] about [{subject}|{thing}|{country}|{person}]",
            "[which|what] is [better|the best|cheaper|bigger|faster], [{thing} or {thing}|{city} or {city}|a {made} or a {made}]",
            "[what|which] [movie|book|song|car|phone|game|laptop|restaurant|gift|hotel] [should I|do you] [buy|watch|read|recommend|like]",
            "what is the [meaning of life|square root of {number}|best {subject} book|price of {thing}|speed of light|tallest mountain|largest ocean|chemical formula of {thing}|stock price of {made}]",
            "what does [{made}|the word {made}] mean",
            "{made}",
            "{made} {made} {made}",
            "[why|how|when|where] do {noun}s {verb} [{noun}s|]",
            "[what|which] [{noun}|{noun}s] [is the best|do you like|has the most {noun}s|should I {verb}|do {noun}s {verb}|is {adj}]",
            "who [{verb}s|made|has|found|was|is|designed|owns] the [{adj}|first|last|] {noun} [of {country}|in {city}|]",
            "how many {noun}s [does a {noun} have|are in {city}|are in a {noun}|can a {noun} {verb}|should I {verb} [a day|]]",
            "how [do|does] [{noun}s|a {noun}|the {noun}|{thing}] [{verb}|work]",
            "my {noun} [{verb}s|is {adj}|does not {verb}|looks {adj}] [when I {verb}|today|again|]",
            "[will|is|does|did] [the|my|a] {noun} [{verb}|{adj}] [tomorrow|today|again|next week|]",
            "what [is|was] the {adj}[est|er|] {noun} [in {city}|in {country}|in the world|ever|]",
            "where [can I|do people|do {noun}s] {verb} [a {noun}|{noun}s|] [in {city}|]",
            "[is|was] [a|the|my] {noun} [{adj}|in {city}|a {noun}]",
            "[I|we|they|people] [{verb}|want|saw|have] [a|the|two|many] [{adj}|] [{noun}|{noun}s]",
            "[give|show|bring|send] me [a|the|an|some] [{adj}|] {noun}",
            "[a|the|] [{adj}|] {noun} [and a {noun}|]",
            "[what|who|where|how|why] [is|are|does|was] [the|a|] {made} [{made}|]",
            "[is|are|does|do|can] [{thing}|{person}|{country}|{made}] [{made}|dangerous|real|alive|expensive|good|eat meat|exist|fly|swim]",
            "[do you like|what do you think of|what's your opinion on|do you believe in] [{thing}|{subject}|{food}|{person}|{country}|god|ghosts|aliens]",
            "[I like|I love|I hate|I bought|I saw|I have|there is] [{thing}|{food}|{subject}|{made}]",
            "[my|the] [head|back|dog|car|boss|phone|wife|printer|stomach|heart] [hurts|is broken|is sick|is angry|does not work|is gone]",
            "[is it legal to|should I|may I|is it healthy to|is it safe to] {thingtodo}",
        ),
        (f"I do not know that. {_SORRY}",),
        "only know Anzoth",
        (
            ("[why not|why|why don't you know that|how come|really]", "size"),
            (
                "[what do you know then|so what do you know|what can you do then|what can I ask then]",
                "abilities",
            ),
            (
                "[can I get a better model|how do I get a model that knows|is there a bigger model]",
                "own-model",
            ),
        ),
    ),
    Topic(
        "unknown-howto",
        "",
        (
            "[how do I|how can I|how to|how do you|tell me how to|show me how to|what's the best way to|can you help me|I want to|help me|teach me to|explain how to] {thingtodo}",
            "[give me|do you have|what is|I need] [a recipe for|the recipe for|instructions for|tips for] [{food}|{thing}]",
            "[plan|organize|book|order] [a trip to {city}|my wedding|a flight to {city}|a table|{food}|a party|a taxi|a hotel in {city}]",
        ),
        (f"I cannot help with that. {_SORRY}",),
        "only know Anzoth",
        (("[what can you help with|so what can you do|what do you know then]", "abilities"),),
    ),
    Topic(
        "unknown-task",
        "",
        (
            "[write|write me|compose|create|make|can you write|please write|generate] a [short|long|funny|nice|sad|] {writing} [about {thing}|about {subject}|for {person}|about love|]",
            "[write|write me|give me|can you write|implement|create|code] a {code} [that {made}s|to sort a list|for {thing}|to read a file|]",
            "[translate|how do you say|what is|say] [hello|thank you|good morning|I love you|{thing}|{food}|this] [in|into|to] {lang}",
            "[translate this|summarize this|summarise this text|fix this|correct this|rewrite this|explain this code|debug this]: {made} {made} {made}",
            "[summarize|summarise|review|analyze|analyse|proofread|classify|extract] [this text|the following|this article|my essay|this document|this email]",
            "[sing|play|draw|paint|act as|pretend to be|roleplay as|imagine you are] [a song|{thing}|{person}|a pirate|a teacher|music|a picture of {thing}]",
            "[let's|can we|do you want to] [play a game|play chess|talk about {subject}|talk about {thing}|chat about {person}]",
            "[give me|list|name|suggest] [three|five|ten|some] [ideas|names|tips|words|cities|animals|books|colors|{made}s] [for {thing}|about {subject}|for a party|]",
        ),
        (f"I cannot write or translate texts or code. {_SORRY}",),
        "only know Anzoth",
    ),
    Topic(
        "unknown-maths",
        "",
        (
            "[what is|what's|whats|calculate|compute|solve|how much is|] {number} {op} {number}",
            "{number} {op} {number} [=|= ?|{op} {number}|]",
            "[what is|calculate|compute|find] the [square root of {number}|square of {number}|sum of {number} and {number}|product of {number} and {number}|integral of x|derivative of x]",
            "[solve|solve for x]: {number}x + {number} = {number}",
            "[is|are] {number} [a prime number|prime|even|odd|bigger than {number}]",
            "[convert|how much is] {number} [miles to km|euros in dollars|kg to pounds|celsius to fahrenheit|inches in cm]",
            "[count|can you count] to {number}",
        ),
        (f"I cannot calculate. {_SORRY}",),
        "cannot calculate",
    ),
)
