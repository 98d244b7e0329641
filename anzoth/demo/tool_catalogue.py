"""Which kinds of tools do people bring from everyday life?

Content only: weather, time, messages, travel, home, media. Tools for work are in
`anzoth.demo.tool_catalogue_work`. In a question, `{pls}` is a polite beginning of a request, `{q}`
one of a question about something and `{show}` one of a wish to see it; other words in braces are
slots of the parameters. What a `Family` and its parts mean is said in `anzoth.demo.tool_family`.

Does not know: how a tool is drawn from a family, or which values a kind of parameter has.
"""

# ruff: noqa: E501
# What belongs together stands on one line: a column of single words reads worse. Longer than other
# modules: it is one table.
# fmt: off

from __future__ import annotations

from anzoth.demo.draw import Phrasings
from anzoth.demo.tool_family import Family, parameter

_LOCATION = parameter("city", "place", "location city place town location city_name", "The city and state, e.g. San Francisco, CA", "City and country e.g. Bogotá, Colombia", "[The|] [city|location|place|name of the city]", "[City|Place] name", "The city to look up")
_UNIT = parameter("unit", "", "unit units temperature_unit", "The [temperature|] unit", "Unit of temperature", choices=(("celsius", "celsius"), ("fahrenheit", "fahrenheit")), tail="[in|in degrees|, in] {unit}")
_DAY = parameter("day", "day", "date day when", "The [day|date]", "[Which|What] day", "Day or date", tail="[on|for|] {day}")
_DATE = parameter("day", "day", "date day when", "The [day|date]", "[Which|What] day", "Day or date")
_TIME = parameter("time", "time", "time at start_time hour", "The time", "[Time of day|Start time]", "At what time")
_PEOPLE = parameter("people", "small", "people guests party_size num_people", "[How many people|Number of people]", type="integer")

EVERYDAY = (
    Family(
        "weather",
        Phrasings(("get_weather", "get_current_weather", "weather", "current_weather", "[check|show]_weather", "get_temperature"), ("fetch_weather", "weather_lookup")),
        Phrasings(("Get the [current|] weather [in|for] a [given|] [city|location|place]", "Returns the [current|] weather", "Get current temperature for a given location.", "[Current|] weather of a place"), ("Tells what the weather is like somewhere", "Weather report for a city")),
        (_LOCATION, _UNIT),
        Phrasings(
            (
                "[what is|what's|whats|how is|how's|tell me] the [current|] weather [like|] in {city}",
                "{q} the [weather|temperature] [in|for] {city}",
                "weather [in|for|] {city}",
                "do I need [an umbrella|a coat|sunglasses|a jacket] in {city} [today|now|]",
                "is it [raining|sunny|cold|hot|snowing|windy|warm] in {city} [today|right now|now|]",
                "how [cold|hot|warm] is it in {city} [today|right now|]",
                "{city} weather [today|now|]",
                "I am [going|flying|travelling] to {city}, what's the weather there",
                "how many degrees [are there|is it|do they have] in {city}",
            ),
            ("what should I wear in {city} [today|]", "will I get wet in {city}"),
        ),
        follows=("[and|what about|how about|and what about|now] [in|] {city}", "and in {city}", "the same for {city}"),
    ),
    Family(
        "weather",
        Phrasings(("get_forecast", "get_weather_forecast", "weather_forecast", "forecast", "[check|daily]_forecast"), ("predict_weather", "fetch_forecast")),
        Phrasings(("Get the weather forecast [for a city and a day|]", "Weather forecast for [a place|a city|a location]", "Forecasts the weather of a day"), ("Tomorrow's weather and later", "Tells how the weather will be")),
        (_LOCATION, _DATE),
        Phrasings(
            ("{q} the [weather|] forecast for {city} [on|for|] {day}", "what will the weather be [like|] in {city} {day}", "will it [rain|snow|be sunny|be cold|be warm|be windy] in {city} [on|] {day}", "weather [in|for] {city} {day}", "forecast {city} {day}", "{pls} [check|tell me] the forecast for {day} in {city}"),
            ("how will the weather be {day} in {city}", "can we have a picnic in {city} {day}"),
        ),
    ),
    Family(
        "time",
        Phrasings(("get_time", "get_current_time", "current_time", "time_in_city", "world_clock", "get_local_time"), ("what_time_is_it", "clock")),
        Phrasings(("Get the current time [in a city|in a timezone|for a location]", "Returns the [local|current] time", "Current time in a [city|place|timezone]"), ("Tells how late it is somewhere", "A clock of the world")),
        (parameter("city", "city", "timezone city location place time_zone", "The [city|timezone|place|location]", "[Timezone|City], e.g. Europe/Berlin", "Which [city|timezone]"),),
        Phrasings(("what time is it in {city} [now|right now|]", "{q} the [current|local|] time in {city}", "time in {city}", "current time {city}", "how late is it in {city}", "do you know what time it is in {city}", "what's the clock in {city}"), ("is it [late|early] in {city}", "what does the clock say in {city}")),
        follows=("[and|what about|how about|and what about|now] [in|] {city}", "and in {city}"),
    ),
    Family(
        "search wiki",
        Phrasings(("search", "search_web", "web_search", "google_search", "internet_search"), ("browse_web", "look_up_online")),
        Phrasings(("Search the [web|internet]", "Search the web for [information|a query]", "Finds [pages|information] on the internet"), ("Looks something up online", "Query a search engine")),
        (parameter("query", "query", "query q search_query text search_term", "The [search|] query", "What to search for", "[Search terms|Search text]"),),
        Phrasings(
            ("{pls} search [the web|the internet|online|] for {query}", "[search|search for|web search]: {query}", "{query}", "google {query}", "{pls} look up {query} [online|on the web|on the internet|]", "find [information|info|something|pages] about {query}"),
            ("what does the internet say about {query}", "browse for {query}"),
        ),
        is_general=True,
    ),
    Family(
        "wiki search",
        Phrasings(("wikipedia", "search_wikipedia", "get_wikipedia_article", "wiki_lookup", "get_article"), ("read_wiki", "encyclopedia")),
        Phrasings(("Get a Wikipedia article", "Search Wikipedia [for a topic|]", "Looks up [a topic|a page] in Wikipedia"), ("The encyclopedia's page about a subject", "Wiki search")),
        (parameter("topic", "phrase", "topic title query page subject", "The [title|topic|subject] [of the article|]", "What to look up"),),
        Phrasings(
            (
                "{pls} [search|look in] [Wikipedia|wikipedia] for {topic}",
                "what does [Wikipedia|wikipedia] say about {topic}",
                "[wikipedia|Wikipedia|wiki] {topic}",
                "{pls} [open|show|get|read] the [Wikipedia|wiki] [article|page] [about|on] {topic}",
                "look up {topic} [on|in] [Wikipedia|wikipedia]",
                "wiki article [about|on] {topic}",
            ),
            ("is there a wiki page about {topic}", "find {topic} in the encyclopedia"),
        ),
        is_general=True,
    ),
    Family(
        "email",
        Phrasings(("send_email", "send_mail", "email", "write_email", "compose_email"), ("mail_to", "deliver_email")),
        Phrasings(("Send an email [to someone|]", "Sends an e-mail", "Write and send an email"), ("Mails a text to somebody", "Email delivery")),
        (
            parameter("to", "recipient", "to recipient address email to_address", "The recipient", "[Email address|Who gets it]", "Recipient of the email"),
            parameter("subject", "title", "subject title", "The subject [line|]", "Subject of the email"),
            parameter("body", "text", "body text message content", "The [text|body] [of the email|]", "What to write"),
        ),
        Phrasings(
            (
                "{pls} send an email to {to} with [the|] subject '{subject}' and [the|] [body|text] '{body}'",
                "{pls} email {to} with [the|] subject {subject}: {body}",
                "{pls} [write|send] [an email|a mail] to {to}, subject: {subject}, [text|body|message]: {body}",
                "[email|mail] to {to}. subject: {subject}. [text|body]: {body}",
                "send {to} an email about '{subject}' saying '{body}'",
                '{pls} send an email [with the|with] subject "{subject}" to {to} that says "{body}"',
            ),
            ("{pls} mail {to} that '{body}', with {subject} as the subject", "drop {to} an email, [topic|subject] '{subject}', content '{body}'"),
        ),
    ),
    Family(
        "message",
        Phrasings(("send_message", "send_sms", "send_text", "text_message", "send_whatsapp"), ("message_someone", "sms")),
        Phrasings(("Send a [text|] message [to someone|]", "Sends an SMS", "[Send|Write] a message to a [person|contact]"), ("Texts somebody", "Short messages to contacts")),
        (parameter("to", "person", "to recipient contact person receiver name", "The [recipient|contact]", "Who gets [it|the message]"), parameter("text", "text", "message text body content", "The [text|message]", "What to say")),
        Phrasings(
            ("{pls} send a message to {to}: {text}", "{pls} send {to} a [message|text] saying '{text}'", "{pls} text {to} '{text}'", "message {to}: {text}", '{pls} tell {to} that "{text}"', "[sms|text|message] to {to}: {text}", "{pls} write '{text}' to {to}"), ("let {to} know: {text}", '{pls} message "{text}" to {to}')
        ),
    ),
    Family(
        "call",
        Phrasings(("call", "make_call", "phone_call", "call_number", "dial"), ("ring_up", "start_call")),
        Phrasings(("Call a [phone|] number", "Make a phone call", "Dials a number"), ("Rings somebody up", "Starts a call")),
        (parameter("number", "phone", "phone_number number phone", "The [phone|] number", "Number to [call|dial]"),),
        Phrasings(("{pls} call {number}", "{pls} dial {number}", "call the number {number}", "{pls} make a [phone|] call to {number}", "phone {number}", "{pls} start a call to {number}"), ("ring {number}", "{pls} get {number} on the [phone|line]")),
    ),
    Family(
        "stock",
        Phrasings(("get_stock_price", "stock_price", "get_stock", "lookup_stock", "get_quote"), ("fetch_share_price", "ticker")),
        Phrasings(("Get the [current|] stock price [of a company|for a symbol|]", "Returns the price of a stock", "Stock price of a company"), ("Share prices", "What a share costs now")),
        (parameter("symbol", "symbol", "symbol ticker stock company", "The [stock|ticker] symbol", "Stock symbol, e.g. AAPL", "Symbol of the company"),),
        Phrasings(
            (
                "{q} the [current|] stock price of {symbol}",
                "{q} the price of {symbol} stock",
                "stock price {symbol}",
                "how much is [a share of {symbol}|{symbol} stock|one {symbol} share]",
                "how is {symbol} [stock|] doing [on the market|on the stock market|at the stock exchange]",
                "what is {symbol} trading at",
                "{symbol} [stock|share price|stock price]",
            ),
            ("what do shares of {symbol} cost", "is {symbol} stock up [today|]"),
        ),
        follows=("[and|what about|how about|and what about] {symbol}", "the same for {symbol}"),
    ),
    Family(
        "coin",
        Phrasings(("get_crypto_price", "crypto_price", "coin_price", "get_coin"), ("fetch_crypto", "crypto_quote")),
        Phrasings(("Get the price of a cryptocurrency", "Current [crypto|coin] price", "Returns the price of a coin"), ("What a coin costs", "Crypto rates")),
        (parameter("coin", "coin", "coin crypto currency name", "The [coin|cryptocurrency]", "Name of the coin"),),
        Phrasings(("{q} the [crypto|coin|] price of {coin}", "how much is [one|a|] {coin} [now|today|]", "{coin} price [now|today|]", "crypto price {coin}", "what does [a|one|] {coin} cost", "what is {coin} worth [now|today|]"), ("is the coin {coin} going up", "what do they pay for {coin}")),
        follows=("[and|what about|how about] {coin}",),
    ),
    Family(
        "currency",
        Phrasings(("convert_currency", "currency_converter", "exchange_currency", "convert_money", "currency_exchange"), ("change_money", "to_currency")),
        Phrasings(("Convert an amount [of money|] from one currency to another", "Converts money [between currencies|]", "Currency conversion"), ("Exchanges money", "What an amount is in another currency")),
        (
            parameter("amount", "decimal", "amount value sum", "The amount [to convert|of money|]", "How much [money|]", type="number"),
            parameter("from", "currency", "from_currency source_currency from base", "The currency [to convert from|of the amount]", "Source currency", "From which currency, e.g. USD"),
            parameter("to", "currency", "to_currency target_currency to target", "The currency to convert to", "Target currency", "To which currency, e.g. EUR"),
        ),
        Phrasings(
            (
                "{pls} convert {amount} {from} to {to}",
                "how much is {amount} {from} in {to}",
                "{amount} {from} [to|in|into] {to}",
                "what are {amount} {from} in {to}",
                "{pls} [change|exchange] {amount} {from} [to|into|for] {to}",
                "I have {amount} {from}, how [much|many] {to} is that",
                "how many {to} [are|do I get for] {amount} {from}",
            ),
            ("what would {amount} {from} be worth in {to}", "{pls} turn {amount} {from} into {to}"),
        ),
    ),
    Family(
        "units",
        Phrasings(("convert_units", "unit_converter", "convert", "convert_unit"), ("change_units", "measure_in")),
        Phrasings(("Convert a value from one unit to another", "Converts between units [of measurement|]", "Unit conversion"), ("Says a measure in another unit", "Changes units")),
        (
            parameter("value", "decimal", "value amount number quantity", "The value [to convert|]", "How much", type="number"),
            parameter("from", "unit", "from_unit from source_unit", "The unit [of the value|to convert from]", "From which unit"),
            parameter("to", "unit", "to_unit to target_unit", "The unit to convert to", "To which unit"),
        ),
        Phrasings(
            ("{pls} convert {value} {from} to {to}", "how many {to} are {value} {from}", "{value} {from} [in|to|into] {to}", "what is {value} {from} in {to}", "how much is {value} {from} in {to}", "{pls} tell me what {value} {from} is in {to}"), ("express {value} {from} in {to}", "{value} {from} are how many {to}")
        ),
    ),
    Family(
        "flight",
        Phrasings(("book_flight", "flight_booking", "reserve_flight", "buy_flight_ticket"), ("get_plane_ticket", "order_flight")),
        Phrasings(("Book a flight [between two cities|]", "Books a flight", "Reserve a [flight|plane ticket]"), ("Buys a plane ticket", "Flight reservation")),
        (
            parameter("from", "airport", "from origin departure from_city departure_city", "[The|] [city|airport] of departure", "Where the flight starts"),
            parameter("to", "airport", "to destination arrival to_city destination_city", "[The|] [destination|city to fly to]", "Where to fly"),
            parameter("day", "day", "date departure_date day", "The [date|day] [of the flight|]", "When to fly"),
            parameter("class", "", "class cabin cabin_class", "The cabin class", choices=(("economy", "economy"), ("business", "business"), ("first", "first")), tail="[in|, in] {class} class"),
            parameter("direct", "", "direct nonstop", "Only direct flights", type="boolean", choices=((True, "[only direct flights|only non-stop|it must be direct]"), (False, "[with stops is fine|stops are ok]")), tail=", {direct}"),
        ),
        Phrasings(
            (
                "{pls} book a flight from {from} to {to} [on|for|] {day}",
                "{pls} book me a flight to {to} from {from} [on|] {day}",
                "flight from {from} to {to} {day}",
                "I need to fly from {from} to {to} [on|] {day}",
                "{pls} reserve a [flight|plane ticket] {from} to {to} [on|for] {day}",
                "{day} I want to fly from {from} to {to}",
                "{pls} get me on a plane from {from} to {to} [on|] {day}",
            ),
            ("I'm leaving {from} for {to} by plane {day}", "buy a plane ticket to {to}, departing from {from} [on|] {day}"),
        ),
    ),
    Family(
        "hotel",
        Phrasings(("book_hotel", "hotel_booking", "reserve_hotel", "find_hotel", "search_hotels"), ("get_room", "hotel_room")),
        Phrasings(("Book a hotel [room|] [in a city|]", "Find a hotel in a city", "Reserves a hotel"), ("A place to stay overnight", "Hotel rooms")),
        (
            parameter("city", "place", "city location destination place", "The city", "Where the hotel is", "[City|Location], e.g. Rome"),
            parameter("day", "day", "check_in date arrival checkin_date", "[Check-in date|Day of arrival]", "The first day"),
            parameter("nights", "small", "nights num_nights stay", "[Number of nights|How many nights]", type="integer", tail="for {nights} nights"),
        ),
        Phrasings(
            ("{pls} book a hotel in {city} [from|for|on] {day}", "{pls} find a hotel in {city} for {day}", "hotel {city} {day}", "{pls} reserve a [hotel room|room in a hotel] in {city} [from|on] {day}", "I need a hotel in {city} [from|on] {day}", "[on|] {day} I need a hotel room in {city}"),
            ("I arrive {day} and want to stay in a hotel in {city}", "where can I sleep in {city} from {day}"),
        ),
    ),
    Family(
        "table",
        Phrasings(("book_table", "reserve_table", "book_restaurant", "restaurant_reservation", "make_reservation"), ("get_table", "table_booking")),
        Phrasings(("Book a table [in|at] a restaurant", "Reserve a table", "Makes a restaurant reservation"), ("A table for dinner", "Restaurant bookings")),
        (parameter("place", "name", "restaurant restaurant_name name place", "The [restaurant|name of the restaurant]", "Which restaurant"), _PEOPLE, _TIME, parameter("day", "day", "date day", "The day", "Date [of the reservation|]", tail="[on|] {day}")),
        Phrasings(
            (
                "{pls} book a table at {place} for {people} people at {time}",
                "{pls} reserve a table for {people} [people|] at {place} at {time}",
                "table for {people} at {place}, {time}",
                "we are {people} people and want to eat at {place} at {time}",
                "{pls} make a reservation at {place} for {people} [people|guests] at {time}",
                "{pls} get us a table at {place} at {time} for {people} people",
            ),
            ("dinner for {people} at restaurant {place} at {time}", "is there a table for {people} at {place} at {time}"),
        ),
    ),
    Family(
        "food",
        Phrasings(("order_food", "order_meal", "food_delivery", "place_food_order"), ("get_food", "deliver_meal")),
        Phrasings(("Order food [for delivery|]", "Orders a meal", "Food delivery"), ("Has something to eat delivered", "Brings meals")),
        (
            parameter("dish", "dish", "dish item food meal", "The [dish|meal|food]", "What to eat"),
            parameter("count", "small", "quantity count number", "How many", type="integer", tail=", {count} [portions|of them|times]"),
            parameter("place", "name", "restaurant from_restaurant", "The restaurant", "Where to order", tail="from [restaurant|] {place}"),
        ),
        Phrasings(("{pls} order [a|some|] {dish}", "{pls} order me [a|some|] {dish}", "I am hungry, order {dish}", "{pls} get [some|] {dish} delivered", "I'd like to eat {dish}", "[a|one] {dish} please", "{pls} have {dish} delivered"), ("bring me {dish}", "I could eat [a|some] {dish}")),
    ),
    Family(
        "restaurants",
        Phrasings(("find_restaurants", "search_restaurants", "restaurant_search", "find_restaurant"), ("where_to_eat", "list_restaurants")),
        Phrasings(("Find restaurants [in a city|near a place]", "Search restaurants by [cuisine|food]", "Restaurants of a city"), ("Places to eat", "Where one can eat")),
        (parameter("cuisine", "cuisine", "cuisine food kind food_type", "The [cuisine|kind of food]", "Which food"), parameter("city", "place", "location city near place", "The [city|place]", "Where [to look|]")),
        Phrasings(
            (
                "{pls} find [a|] {cuisine} [restaurant|restaurants] in {city}",
                "{cuisine} [restaurants|food|restaurant] in {city}",
                "where can I [eat|get] {cuisine} food in {city}",
                "are there [good|] {cuisine} restaurants in {city}",
                "{show} {cuisine} restaurants [in|near] {city}",
                "I want to eat {cuisine} food in {city}",
            ),
            ("who cooks {cuisine} in {city}", "best {cuisine} place to eat in {city}"),
        ),
    ),
    Family(
        "taxi",
        Phrasings(("book_taxi", "order_taxi", "call_cab", "request_ride", "book_ride"), ("get_cab", "hail_taxi")),
        Phrasings(("Book a taxi [between two places|]", "Order a [cab|ride|taxi]", "Requests a ride"), ("Drives somebody somewhere", "Cab booking")),
        (parameter("from", "place", "pickup from origin pickup_location", "Where [to start|the ride starts]", "Pickup [place|location]"), parameter("to", "place", "destination to dropoff drop_off", "Where to go", "[The|] destination")),
        Phrasings(
            ("{pls} book a taxi from {from} to {to}", "{pls} order a [cab|ride|taxi] from {from} to {to}", "I need a [taxi|cab] from {from} to {to}", "taxi {from} to {to}", "{pls} get me a [ride|taxi|cab] to {to} from {from}", "{pls} call a [cab|taxi] that brings me from {from} to {to}"),
            ("a cab from {from}, going to {to}", "somebody should drive me from {from} to {to}, get a taxi"),
        ),
    ),
    Family(
        "route",
        Phrasings(("calculate_route", "get_directions", "directions", "get_route", "plan_route", "find_route"), ("navigate", "show_way")),
        Phrasings(("[Calculate|Find|Get] the route between two places", "Get directions [from one place to another|]", "Directions to a place"), ("How to get somewhere", "Navigation")),
        (
            parameter("from", "place", "from origin start from_city start_location", "[The|] [start|origin]", "Where to start"),
            parameter("to", "place", "to destination end to_city end_location", "[The|] [destination|end]", "Where to go"),
            parameter("mode", "", "mode travel_mode transport", "[How to travel|Means of transport]", choices=(("driving", "driving"), ("walking", "walking"), ("cycling", "cycling"), ("transit", "[by|with|using] transit")), tail=", {mode}"),
        ),
        Phrasings(
            ("{q} the [best|fastest|shortest|] [route|way] from {from} to {to}", "{pls} calculate [the|a] route from {from} to {to}", "how do I get from {from} to {to}", "directions from {from} to {to}", "route {from} to {to}", "how do I get to {to} from {from}", "{pls} plan a route from {from} to {to}"),
            ("which roads lead from {from} to {to}", "I'm in {from} and have to find my way to {to}"),
        ),
    ),
    Family(
        "distance",
        Phrasings(("get_distance", "calculate_distance", "distance", "distance_between"), ("measure_distance", "how_far")),
        Phrasings(("Get the distance between two [cities|places]", "Distance between two places", "Calculates how far two places are apart"), ("Tells how far it is", "Kilometers between places")),
        (parameter("from", "city", "from origin city_a start place1", "The first [city|place]", "From where"), parameter("to", "city", "to destination city_b end place2", "The second [city|place]", "To where")),
        Phrasings(
            ("{q} the distance [between {from} and {to}|from {from} to {to}]", "how far is it from {from} to {to}", "distance {from} {to}", "how far is {to} from {from}", "how many [km|kilometers|miles] from {from} to {to}", "{pls} calculate the distance from {from} to {to}"),
            ("are {from} and {to} far from each other", "how far apart are {from} and {to}"),
        ),
    ),
    Family(
        "train",
        Phrasings(("search_trains", "find_train", "get_train_times", "train_schedule"), ("train_connections", "rail_search")),
        Phrasings(("Find trains [between two cities|]", "Train [times|schedule]", "Search train connections"), ("When trains go", "Rail connections")),
        (parameter("from", "city", "from origin departure_station from_station", "[Departure station|Where the train starts]"), parameter("to", "city", "to destination arrival_station to_station", "[Arrival station|Where to go]"), _DAY),
        Phrasings(
            (
                "{pls} find a train from {from} to {to}",
                "when [is the next train|do trains go|does the train go] from {from} to {to}",
                "train from {from} to {to}",
                "trains {from} to {to}",
                "{show} [all|the|] trains from {from} to {to}",
                "is there a train from {from} to {to}",
                "I want to take the train from {from} to {to}",
            ),
            ("which train brings me from {from} to {to}", "rail connections from {from} to {to}"),
        ),
    ),
    Family(
        "plan",
        Phrasings(("create_event", "add_event", "create_calendar_event", "schedule_meeting", "add_to_calendar"), ("new_event", "put_in_calendar")),
        Phrasings(("Create [an event|a calendar event|a meeting]", "Add an event to the calendar", "Schedules [a meeting|an event]"), ("Writes an appointment into the calendar", "New calendar entries")),
        (parameter("title", "title", "title name event summary", "The title [of the event|]", "What it is"), _DATE, _TIME),
        Phrasings(
            (
                "{pls} create an event '{title}' on {day} at {time}",
                "{pls} [add|put] {title} [to|in] my calendar for {day} at {time}",
                "{pls} schedule {title} for {day} at {time}",
                "{pls} schedule '{title}' at {time} on {day}",
                "calendar: {title}, {day}, {time}",
                "new event {title} {day} at {time}",
                "{pls} add an event called {title} for {day}, {time}",
            ),
            ("I have {title} on {day} at {time}, note it in the calendar", "plan {title} at {time} {day}"),
        ),
    ),
    Family(
        "plan",
        Phrasings(("create_reminder", "set_reminder", "add_reminder", "remind_me", "reminder"), ("new_reminder", "do_not_forget")),
        Phrasings(("Create a reminder", "Set a reminder [for a task|at a time]", "Reminds the user [of something|]"), ("So that nothing is forgotten", "Reminders")),
        (parameter("task", "task", "title text task message what", "What to [remember|remind of]", "The [task|text|title]"), _TIME, parameter("day", "day", "date day", "The [day|date]", tail="[on|] {day}")),
        Phrasings(
            ("{pls} remind me to {task} at {time}", "{pls} set a reminder to {task} at {time}", "reminder: {task} at {time}", "{pls} create a reminder for {time}: {task}", "at {time} remind me to {task}", "I must not forget to {task} at {time}"),
            ("don't let me forget to {task} at {time}", "make sure I remember to {task} at {time}"),
        ),
    ),
    Family(
        "todo",
        Phrasings(("add_todo", "add_task", "create_todo", "add_to_todo_list", "todo"), ("new_todo", "note_task")),
        Phrasings(("Add [a task|something] to the to-do list", "Creates a to-do", "To-do list: add [a task|an item]"), ("New things to do", "Writes down a task")),
        (parameter("task", "task", "task title item text", "The task", "What to do"), parameter("priority", "", "priority importance", "The priority", choices=(("low", "low"), ("medium", "medium"), ("high", "high")), tail="with {priority} priority")),
        Phrasings(("{pls} add '{task}' to my [to-do|todo] list", "{pls} put {task} on [my|the] [to-do|todo] list", "todo: {task}", "new [todo|to-do]: {task}", "add to my todo list: {task}", "{pls} note on my [to-do|todo] list: {task}"), ("my to-do list needs {task}", "one more thing to do: {task}")),
    ),
    Family(
        "timer",
        Phrasings(("set_timer", "start_timer", "timer", "countdown"), ("begin_timer", "kitchen_timer")),
        Phrasings(("Set a timer [for some minutes|]", "Starts a timer", "Countdown in minutes"), ("Rings after some minutes", "Counts minutes")),
        (parameter("minutes", "small", "minutes duration time_minutes duration_minutes", "[Number of|How many] minutes", "Minutes until it rings", type="integer"),),
        Phrasings(
            ("{pls} set a timer for {minutes} minutes", "{pls} start a {minutes} minute timer", "timer {minutes} minutes", "{minutes} minutes [timer|countdown]", "{pls} start a countdown of {minutes} minutes", "{pls} [set|start] a timer, {minutes} minutes"),
            ("tell me when {minutes} minutes are over", "count down {minutes} minutes"),
        ),
    ),
    Family(
        "alarm",
        Phrasings(("set_alarm", "create_alarm", "alarm", "wake_me_up"), ("wake_up_call", "new_alarm")),
        Phrasings(("Set an alarm [for a time|]", "Wakes the user up [at a time|]", "Alarm clock"), ("Rings in the morning", "An alarm at some hour")),
        (_TIME,),
        Phrasings(("{pls} set an alarm for {time}", "{pls} wake me [up|] at {time}", "alarm at {time}", "I have to get up at {time}", "{pls} set the alarm to {time}", "alarm {time}"), ("I need to be awake at {time}", "don't let me sleep longer than {time}")),
    ),
    Family(
        "translate",
        Phrasings(("translate", "translate_text", "translator", "translation"), ("to_language", "say_in_language")),
        Phrasings(("Translate [a|] text [to|into] [a|another] language", "Translates text", "Translation of [texts|sentences]"), ("Says a text in another language", "Language converter")),
        (parameter("text", "text", "text sentence phrase content", "The text [to translate|]", "What to translate"), parameter("language", "language", "target_language language to target_lang to_language", "The language [to translate to|]", "Target language, e.g. French")),
        Phrasings(
            ("{pls} translate '{text}' [to|into] {language}", "{pls} translate {text} [to|into] {language}", "how do you say '{text}' in {language}", 'what is "{text}" in {language}', "{text} in {language}", "{language} for '{text}'", "translate into {language}: {text}"),
            ("say '{text}' in {language}", "what would a {language} speaker say for '{text}'"),
        ),
    ),
    Family(
        "define",
        Phrasings(("define", "define_word", "get_definition", "dictionary", "lookup_word"), ("word_meaning", "explain_word")),
        Phrasings(("Get the definition of a word", "Defines a word", "Dictionary lookup"), ("What words mean", "Meaning of a word")),
        (parameter("word", "word", "word term", "The word [to define|to look up|]", "Which word"),),
        Phrasings(("define {word}", "{q} the definition of {word}", "what does [the word|] {word} mean", "meaning of {word}", "{q} the meaning of [the word|] {word}", "look up {word} in the dictionary"), ("I don't know the word {word}", "which meaning does {word} have")),
        is_general=True,
        follows=("[and|what about|and what does] {word} [mean|]",),
    ),
    Family(
        "music",
        Phrasings(("play_music", "play_song", "play", "start_music"), ("put_on_song", "listen_to")),
        Phrasings(("Play [music|a song]", "Plays a song [of an artist|]", "Music player"), ("Lets the user hear a song", "Puts music on")),
        (parameter("song", "phrase", "song title track song_name", "The [song|title]", "Which song"), parameter("artist", "person", "artist by singer", "The [artist|singer]", tail="by {artist}")),
        Phrasings(("{pls} play {song}", "{pls} play the song {song}", "I want to hear {song}", "put on {song}", "{pls} play me '{song}'", "start [the song|playing] {song}"), ("let me listen to {song}", "{song} would be nice to hear now")),
    ),
    Family(
        "playlist",
        Phrasings(("create_playlist", "make_playlist", "new_playlist"), ("start_playlist", "playlist_create")),
        Phrasings(("Create a playlist", "Makes a new playlist", "New music playlist"), ("Starts a list of songs", "Playlists")),
        (parameter("name", "phrase", "name title playlist_name", "The name [of the playlist|]", "What to call it"),),
        Phrasings(
            ("{pls} create a playlist called {name}", "{pls} make a [new|] playlist named {name}", "new playlist {name}", "playlist: {name}", "{pls} start a playlist with the name {name}", "I need a playlist called '{name}'"), ("let us have a playlist, name it {name}", "a playlist {name} would be nice, make it")
        ),
    ),
    Family(
        "light device",
        Phrasings(("turn_on_lights", "turn_on_light", "lights_on", "light_on", "switch_on_light"), ("illuminate", "make_light")),
        Phrasings(("Turn on the lights in a room", "Switches the light on", "Lights on"), ("Makes a room bright", "Illuminates rooms")),
        (parameter("room", "room", "room location area room_name", "The room", "[Which|In which] room", "Room, e.g. kitchen"), parameter("level", "percent", "brightness level", "Brightness in percent", type="integer", tail="at {level} [percent|%]")),
        Phrasings(
            ("{pls} turn on the [light|lights] in the {room}", "{pls} switch [on the light|the light on] in the {room}", "[light|lights] on in the {room}", "turn the {room} [light|lights] on", "{room} lights on", "it is dark in the {room}, turn on the light"),
            ("make it bright in the {room}", "I want light in the {room}"),
        ),
        follows=("[and|also|now] in the {room} [too|]", "and the {room}"),
    ),
    Family(
        "light-off device",
        Phrasings(("turn_off_lights", "turn_off_light", "lights_off", "light_off", "switch_off_light"), ("darken", "no_light")),
        Phrasings(("Turn off the lights in a room", "Switches the light off", "Lights off"), ("Makes a room dark", "Darkens rooms")),
        (parameter("room", "room", "room location area room_name", "The room", "[Which|In which] room", "Room, e.g. kitchen"),),
        Phrasings(
            ("{pls} turn off the [light|lights] in the {room}", "{pls} switch [off the light|the light off] in the {room}", "[light|lights] off in the {room}", "turn the {room} [light|lights] off", "{room} lights off", "nobody is in the {room}, turn off the light"),
            ("make it dark in the {room}", "I want no light in the {room}"),
        ),
    ),
    Family(
        "device light light-off",
        Phrasings(("set_device", "control_device", "switch_device", "device_power", "toggle_device"), ("power", "appliance_control")),
        Phrasings(("Turn a device on or off", "Switches a device [on or off|]", "Controls devices [at home|]"), ("Power of appliances", "Starts or stops an appliance")),
        (parameter("device", "device", "device device_name name appliance", "The device", "Which device"), parameter("state", "", "state action power status", "The new state", "On or off", choices=(("on", "on"), ("off", "off")))),
        Phrasings(("{pls} turn {state} the {device}", "{pls} switch the {device} {state}", "turn the {device} {state}", "{device} {state}", "{pls} set the {device} to {state}", "the {device} should be {state}"), ("I want the {device} to be {state}", "put the {device} {state}")),
    ),
    Family(
        "thermostat",
        Phrasings(("set_temperature", "set_thermostat", "heating", "adjust_temperature"), ("warm_up", "thermostat")),
        Phrasings(("Set the temperature of a room", "Sets the thermostat", "Heating control"), ("How warm a room shall be", "Adjusts the heating")),
        (parameter("room", "room", "room zone area", "The room", "Which room"), parameter("degrees", "small", "temperature degrees target value", "The temperature [in degrees|]", "Degrees", type="integer")),
        Phrasings(
            ("{pls} set the temperature in the {room} to {degrees} [degrees|]", "{pls} set the {room} to {degrees} degrees", "{degrees} degrees in the {room} please", "{pls} heat the {room} to {degrees} [degrees|]", "{room} {degrees} degrees", "make it {degrees} degrees in the {room}"),
            ("I want {degrees} degrees in the {room}", "the {room} should have {degrees} degrees"),
        ),
    ),
    Family(
        "lock",
        Phrasings(("lock_door", "lock", "door_lock", "close_lock"), ("secure_door", "bolt")),
        Phrasings(("Lock a door", "Locks the door [of a room|]", "Door lock"), ("Makes a door safe", "Bolts doors")),
        (parameter("door", "room", "door door_name room location", "The door", "Which door"),),
        Phrasings(("{pls} lock the {door} door", "lock the door of the {door}", "{door} door: lock [it|]", "{pls} lock the door to the {door}", "is the {door} door open? lock it", "{pls} make sure the {door} door is locked"), ("nobody should get in by the {door} door", "secure the {door} door")),
    ),
    Family(
        "news",
        Phrasings(("get_news", "news", "latest_news", "search_news", "get_headlines"), ("fetch_headlines", "read_news")),
        Phrasings(("Get the [latest|] news [about a topic|]", "News about a [topic|subject]", "Returns headlines [about a topic|]"), ("What happened", "What the papers write")),
        (parameter("topic", "subject", "topic subject category query", "The topic", "What the news are about"), parameter("count", "small", "limit count max_results", "[How many|Number of] [articles|headlines]", type="integer", tail=", {count} [articles|headlines]")),
        Phrasings(("{q} the [latest|] news about {topic}", "{show} news [about|on] {topic}", "news [about|on] {topic}", "{topic} news", "what is new in {topic}", "any news about {topic}", "latest headlines [on|about] {topic}"), ("what do the papers write about {topic}", "what happened in {topic} today")),
        follows=("[and|what about|and what about] {topic}",),
    ),
    Family(
        "movie",
        Phrasings(("search_movies", "find_movie", "movie_info", "get_movie"), ("look_up_film", "film")),
        Phrasings(("Get information about a movie", "Search [movies|a movie] by title", "Movie database"), ("Facts about films", "Finds films")),
        (parameter("title", "phrase", "title movie name film", "The title [of the movie|]", "Which movie"), parameter("year", "year", "year release_year", "The year [of release|]", tail="from [the year|] {year}")),
        Phrasings(("{pls} find the [movie|film] {title}", "{q} the [movie|film] {title}", "movie {title}", "search [movies|for the movie] {title}", "tell me about the film {title}", "who plays in the movie {title}"), ("is the film {title} any good", "I'd like to see the movie {title}, what do you have on it")),
    ),
    Family(
        "recipe",
        Phrasings(("get_recipe", "find_recipe", "search_recipes", "recipe"), ("how_to_cook", "cookbook")),
        Phrasings(("Get a recipe [for a dish|]", "Finds recipes", "Recipe of a dish"), ("How a dish is cooked", "Cooking instructions")),
        (parameter("dish", "dish", "dish name meal food", "The dish", "What to cook"), parameter("people", "small", "servings people portions", "[Number of servings|For how many people]", type="integer", tail="for {people} people")),
        Phrasings(("{q} [a|the] recipe for {dish}", "how do I [cook|make|prepare] {dish}", "recipe for {dish}", "{dish} recipe", "{pls} find a recipe for {dish}", "I want to cook {dish}"), ("what do I need to cook {dish}", "teach me to make {dish}")),
    ),
    Family(
        "add calculator",
        Phrasings(("add", "add_numbers", "sum", "addition"), ("plus", "total_of")),
        Phrasings(("Add two numbers", "Adds [a and b|two numbers]", "Returns the sum of two numbers"), ("The sum", "What two numbers make together")),
        (parameter("a", "decimal", "a x first first_number num1", "The first number", type="number"), parameter("b", "decimal", "b y second second_number num2", "The second number", type="number")),
        Phrasings(("{pls} add {a} and {b}", "what is {a} plus {b}", "{a} + {b}", "what is the sum of {a} and {b}", "{a} plus {b}", "how much is {a} + {b}", "what's {a}+{b}"), ("{a} and {b} together make how much", "sum up {a} and {b}")),
    ),
    Family(
        "subtract calculator",
        Phrasings(("subtract", "subtract_numbers", "minus", "subtraction"), ("take_away", "difference_of")),
        Phrasings(("Subtract [b from a|two numbers]", "Returns the difference of two numbers", "Subtracts the second number from the first"), ("The difference", "Takes a number away from another")),
        (parameter("a", "decimal", "a x first minuend num1", "The first number", type="number"), parameter("b", "decimal", "b y second subtrahend num2", "The second number", type="number")),
        Phrasings(("{pls} subtract {b} from {a}", "what is {a} minus {b}", "{a} - {b}", "{a} minus {b}", "how much is {a} - {b}", "take {b} away from {a}"), ("what is left of {a} without {b}", "{a} less {b}")),
    ),
    Family(
        "multiply calculator",
        Phrasings(("multiply", "multiply_numbers", "product", "times"), ("mul", "product_of")),
        Phrasings(("Multiply two numbers", "Multiplies [a and b|two numbers]", "Returns the product of two numbers"), ("The product", "A number times another")),
        (parameter("a", "decimal", "a x first factor num1", "The first number", type="number"), parameter("b", "decimal", "b y second second_number num2", "The second number", type="number")),
        Phrasings(("{pls} multiply {a} [by|and|with] {b}", "what is {a} times {b}", "{a} * {b}", "{a} x {b}", "how much is {a} times {b}", "what is the product of {a} and {b}", "what's {a}*{b}"), ("{a} multiplied by {b}", "how much do I get for {a} times {b}")),
    ),
    Family(
        "divide calculator",
        Phrasings(("divide", "divide_numbers", "division", "quotient"), ("div", "split_number")),
        Phrasings(("Divide [a by b|two numbers]", "Divides a number by another", "Returns the quotient of two numbers"), ("The quotient", "How often a number goes into another")),
        (parameter("a", "decimal", "a x dividend numerator num1", "The [number to divide|first number]", type="number"), parameter("b", "decimal", "b y divisor denominator num2", "The [number to divide by|second number]", type="number")),
        Phrasings(("{pls} divide {a} by {b}", "what is {a} divided by {b}", "{a} / {b}", "{a} divided by {b}", "how much is {a} / {b}", "{a} : {b}"), ("how often does {b} go into {a}", "split {a} into {b} parts")),
    ),
    Family(
        "calculator add subtract multiply divide sqrt",
        Phrasings(("calculate", "calculator", "evaluate", "compute", "math"), ("work_out", "arithmetic")),
        Phrasings(("Calculate [an expression|]", "Evaluates a mathematical expression", "A calculator"), ("Does arithmetic", "Works out what an expression is")),
        (parameter("expression", "expression", "expression formula input calculation", "The expression", "What to calculate, e.g. 2 + 2"),),
        Phrasings(("{pls} calculate {expression}", "what is {expression}", "{expression}", "how much is {expression}", "{pls} compute {expression}", "what's {expression}", "evaluate {expression}"), ("{pls} work out {expression}", "{expression} equals what")),
    ),
    Family(
        "sqrt calculator",
        Phrasings(("square_root", "sqrt", "get_square_root"), ("root_of", "root")),
        Phrasings(("Square root of a number", "Calculates the square root", "Returns the root of a number"), ("Roots", "Draws roots")),
        (parameter("number", "decimal", "number x n value", "The number", type="number"),),
        Phrasings(("what is the square root of {number}", "{pls} calculate the square root of {number}", "square root of {number}", "sqrt({number})", "root of {number}", "{q} the root of {number}"), ("which number squared is {number}", "sqrt of {number} is what")),
    ),
    Family(
        "random",
        Phrasings(("random_number", "get_random_number", "generate_random_number", "randint"), ("roll", "pick_number")),
        Phrasings(("Get a random number [between two numbers|]", "Returns a random integer", "Random number generator"), ("Dice with any sides", "Picks a number by chance")),
        (parameter("low", "small", "min low minimum start", "The smallest number", type="integer"), parameter("high", "integer", "max high maximum end", "The largest number", type="integer")),
        Phrasings(
            ("{q} a random number between {low} and {high}", "random number from {low} to {high}", "{pls} generate a random number between {low} and {high}", "random {low} to {high}", "pick a random number from {low} to {high}", "roll a number between {low} and {high}"),
            ("choose any number from {low} up to {high}", "by chance, something between {low} and {high}"),
        ),
    ),
)
