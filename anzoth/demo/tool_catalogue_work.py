"""Which kinds of tools do people bring from their work?

Content only: orders, customers, tickets, files, machines; and small services that need little or
nothing. `{pls}`, `{q}` and `{show}` begin a question, see `anzoth.demo.tool_catalogue`.

Does not know: how a tool is drawn from a family, or which values a kind of parameter has.
"""

# ruff: noqa: E501
# What belongs together stands on one line: a column of single words reads worse.
# fmt: off

from __future__ import annotations

from anzoth.demo.draw import Phrasings
from anzoth.demo.tool_family import Family, parameter

_PRIORITY = parameter("priority", "", "priority urgency severity", "The priority", "How urgent it is", choices=(("low", "low"), ("medium", "medium"), ("high", "high")), tail="with {priority} priority")
_FILE = parameter("file", "file", "path file filename file_path file_name", "The [file|path]", "[Path|Name] of the file", "Which file")

WORK = (
    Family(
        "order",
        Phrasings(("get_order_status", "order_status", "check_order", "track_order", "get_order", "lookup_order"), ("fetch_order", "where_is_order")),
        Phrasings(("Get the status of an order", "Look up an order [by its id|]", "Returns the status of an order"), ("Tells where an order is", "How far an order is")),
        (parameter("id", "code", "order_id id order_number order", "The [id|number] of the order", "Order [id|number]", "Which order"),),
        Phrasings(
            ("{q} the status of [my|the|] order {id}", "{pls} check [the|my|] order {id}", "where is my order {id}", "order {id}", "when will [my|the] order {id} arrive", "has [my|the] order {id} been shipped", "track order {id}", "status of order {id}"),
            ("I am still waiting for order {id}", "did you send order {id} [already|]"),
        ),
        follows=("[and|what about|and what about] {id}", "and order {id}"),
    ),
    Family(
        "order-cancel",
        Phrasings(("cancel_order", "order_cancel", "cancel_purchase"), ("revoke_order", "stop_order")),
        Phrasings(("Cancel an order", "Cancels an order [of the customer|]", "Cancel a purchase"), ("Takes an order back", "No longer wanted orders")),
        (parameter("id", "code", "order_id id order_number order", "The [id|number] of the order", "Order [id|number]", "Which order"), parameter("reason", "text", "reason comment", "The reason", "Why", tail="because '{reason}'")),
        Phrasings(("{pls} cancel [my|the|] order {id}", "cancel order {id}", "I want to cancel order {id}", "order {id} must be cancelled", "{pls} cancel the order with the number {id}", "I no longer want order {id}, cancel it"), ("stop order {id}", "order {id} was a mistake, cancel it")),
    ),
    Family(
        "person",
        Phrasings(("get_customer", "lookup_customer", "find_customer", "search_customer", "get_client"), ("fetch_customer", "customer_record")),
        Phrasings(("Get a customer by [name|id]", "Look up a customer", "Finds a customer's [data|record]"), ("Who a customer is", "Data on a client")),
        (parameter("name", "person", "name customer_name customer client", "The [name of the|] customer", "Name of the customer"),),
        Phrasings(("{q} the customer {name}", "{pls} find [the|] customer {name}", "customer {name}", "{pls} look up [the|] customer {name}", "{show} the data of customer {name}", "who is [the|our] customer {name}"), ("is there a customer called {name}", "open the record of customer {name}")),
        follows=("[and|what about] {name}",),
    ),
    Family(
        "person",
        Phrasings(("get_customer_by_id", "get_user", "get_user_by_id", "get_customer", "user_info"), ("fetch_user", "read_user")),
        Phrasings(("Get a [user|customer] by id", "Returns the [user|customer] with an id", "[User|Customer] information"), ("Who has this id", "Reads a user's record")),
        (parameter("id", "integer", "id user_id customer_id", "The [id|number]", "Id of the [user|customer]", type="integer"),),
        Phrasings(("{q} [the|] [user|customer] {id}", "{show} [user|customer] [number|with id] {id}", "[user|customer] {id}", "{pls} look up [user|customer] {id}", "who is [user|customer] {id}", "{q} the data of [user|customer] {id}"), ("which person has the id {id}", "open [user|customer] {id}")),
        follows=("[and|what about] {id}",),
    ),
    Family(
        "person",
        Phrasings(("lookup_user", "find_user", "get_user_by_email", "search_user", "find_account"), ("fetch_profile", "user_by_mail")),
        Phrasings(("Look up a user by email", "Finds the user with an email address", "User lookup"), ("Whose address it is", "Account behind a mail address")),
        (parameter("email", "email", "email address email_address", "The email [address|]", "Email [address|] of the user"),),
        Phrasings(("{pls} look up the user [with the email|] {email}", "who is {email}", "{pls} find the user [with email|] {email}", "user {email}", "which user has the [email|address] {email}", "{q} the account of {email}"), ("who uses {email}", "whose address is {email}")),
    ),
    Family(
        "person-create",
        Phrasings(("create_user", "add_user", "register_user", "create_customer", "add_contact"), ("new_user", "sign_up")),
        Phrasings(("Create a [user|contact|customer]", "Adds a new [user|person]", "Registers a [user|customer]"), ("New people", "Signs somebody up")),
        (
            parameter("name", "person", "name full_name user_name", "The [full|] name", "Name of the person"),
            parameter("email", "email", "email email_address mail", "The email [address|]", "Email"),
            parameter("admin", "", "is_admin admin", "[Whether|If] the user is an admin", type="boolean", choices=((True, "[as admin|as an admin]"), (False, "[not as admin|without admin rights]")), tail="{admin}"),
        ),
        Phrasings(
            (
                "{pls} create a [user|contact|customer] [called|named|for|] {name} with [the|] email {email}",
                "{pls} add [the user|the contact|the customer|user] {name} with email {email}",
                "new [user|contact|customer]: {name}, {email}",
                "{pls} register {name} ({email}) [as a customer|as a user|]",
                "add {name}, email {email}",
                "create user {name} {email}",
            ),
            ("{name} wants to sign up with {email}", "make an account for {name}, mail {email}"),
        ),
    ),
    Family(
        "ticket",
        Phrasings(("create_ticket", "open_ticket", "create_issue", "report_bug", "submit_ticket"), ("new_issue", "file_complaint")),
        Phrasings(("Create a [support|] ticket", "Opens a [ticket|new issue]", "Report a [problem|bug]"), ("Writes a problem down for support", "New complaints")),
        (parameter("title", "title", "title subject summary", "The title", "What it is about", "Summary of the problem"), _PRIORITY),
        Phrasings(
            ("{pls} create a ticket '{title}'", "{pls} open a [ticket|new ticket]: {title}", "new ticket: {title}", "{pls} create [an issue|a ticket] [called|titled|with the title] '{title}'", "ticket: {title}", "{pls} [report|file] [a bug|an issue]: {title}"),
            ("support should know about this: {title}", "we have a problem, make a ticket: {title}"),
        ),
    ),
    Family(
        "ticket",
        Phrasings(("get_ticket", "ticket_status", "get_issue", "check_ticket", "lookup_ticket"), ("fetch_ticket", "read_issue")),
        Phrasings(("Get [a ticket|the status of a ticket]", "Ticket status", "Returns an issue by its [id|number]"), ("How far a ticket is", "Reads a complaint")),
        (parameter("id", "code", "ticket_id id number ticket", "The [id|number] of the ticket", "Ticket [id|number]"),),
        Phrasings(("{q} the status of ticket {id}", "{pls} check ticket {id}", "ticket {id}", "{show} [the|] ticket {id}", "is [the|] ticket {id} [closed|done|solved|open]", "what is happening with ticket {id}"), ("did somebody look at ticket {id}", "how far is ticket {id}")),
        follows=("[and|what about] {id}",),
    ),
    Family(
        "stock-level",
        Phrasings(("check_inventory", "get_inventory", "get_stock_level", "check_stock", "inventory"), ("count_items", "on_shelf")),
        Phrasings(("Check the inventory of [a product|an item]", "How many of an item are in stock", "Inventory of a warehouse"), ("What is left on the shelves", "Items in store")),
        (parameter("item", "word", "product item product_name item_name", "The [product|item]", "Which [product|item]"), parameter("place", "city", "warehouse location store", "The [warehouse|store]", "Where", tail="in [warehouse|the store in|] {place}")),
        Phrasings(
            ("how many {item}s [are|do we have] in stock", "{pls} check the inventory [of|for] {item}s", "inventory of {item}s", "is [the|a|] {item} in stock", "{q} the stock of {item}s", "do we have [any|enough] {item}s in stock", "stock {item}"), ("are there {item}s left [on the shelf|]", "did we run out of {item}s")
        ),
    ),
    Family(
        "product",
        Phrasings(("search_products", "find_products", "product_search", "get_products", "find_item"), ("browse_shop", "catalog")),
        Phrasings(("Search [products|the shop|the catalog]", "Finds products by [name|word]", "Product search"), ("What the shop sells", "Goods on offer")),
        (
            parameter("query", "phrase", "query q keyword product name", "What to search for", "The [search word|product]"),
            parameter("price", "decimal", "max_price price_limit max", "The highest price", type="number", tail="[under|below|for less than] {price}"),
            parameter("color", "color", "color colour", "The color", tail="in {color}"),
        ),
        Phrasings(("{pls} search the [shop|catalog|products] for {query}", "do you sell {query}", "{show} products [called|like|for] {query}", "search products: {query}", "products {query}", "I want to buy {query}", "{pls} find the product {query}"), ("does the shop have {query}", "is {query} on offer")),
    ),
    Family(
        "cart",
        Phrasings(("add_to_cart", "cart_add", "add_item", "put_in_cart"), ("buy_item", "fill_basket")),
        Phrasings(("Add [an item|a product] to the cart", "Puts a product into the cart", "Shopping cart"), ("Fills the basket", "Things to buy")),
        (parameter("item", "word", "item product product_name item_name", "The [product|item]", "What to add"), parameter("count", "small", "quantity count amount", "How many", "The quantity", type="integer")),
        Phrasings(
            ("{pls} add {count} {item}s to [my|the] cart", "{pls} put {count} {item}s [in|into] [my|the] cart", "{count} {item}s in the cart", "add to cart: {count} {item}s", "I [want|need] {count} {item}s in my cart", "cart: {count} {item}s"),
            ("{count} {item}s go into the basket", "my basket should get {count} {item}s"),
        ),
    ),
    Family(
        "invoice",
        Phrasings(("create_invoice", "make_invoice", "write_invoice", "add_invoice"), ("bill_customer", "new_invoice")),
        Phrasings(("Create an invoice [for a customer|]", "Writes an invoice", "Invoices a customer"), ("Bills somebody", "New bills")),
        (parameter("customer", "person", "customer client customer_name to", "The customer", "Who [pays|gets it]"), parameter("amount", "decimal", "amount total sum", "The amount", "How much", type="number"), parameter("day", "date", "due_date due deadline", "When it is due", "Due date", tail="due on {day}")),
        Phrasings(
            ("{pls} create an invoice for {customer} over {amount}", "{pls} write {customer} an invoice over {amount}", "invoice for {customer}, {amount}", "{pls} invoice {customer} for {amount}", "new invoice: {customer}, {amount}", "{pls} make an invoice of {amount} for {customer}"),
            ("{customer} owes us {amount}, write an invoice", "bill {customer} {amount}"),
        ),
    ),
    Family(
        "transfer",
        Phrasings(("transfer_money", "send_money", "make_payment", "send_payment", "pay"), ("wire_money", "bank_transfer")),
        Phrasings(("Transfer money to someone", "Sends money", "Make a payment [to somebody|]"), ("Pays somebody", "Bank transfers")),
        (parameter("amount", "decimal", "amount sum value", "The amount", "How much", type="number"), parameter("to", "person", "to recipient payee receiver", "The recipient", "Who gets it")),
        Phrasings(
            ("{pls} transfer {amount} to {to}", "{pls} send {amount} [euros|dollars] to {to}", "{pls} pay {to} {amount} [euros|dollars|]", "transfer {amount} to {to}", "{amount} to {to}, please transfer it", "{pls} send {to} {amount} [euros|dollars]"),
            ("{to} should get {amount} from me", "give {to} {amount} from my account"),
        ),
    ),
    Family(
        "balance",
        Phrasings(("get_balance", "account_balance", "check_balance", "get_account_balance"), ("read_balance", "money_left")),
        Phrasings(("Get the balance of [an account|a bank account]", "Account balance", "Returns how much money is on an account"), ("What is left on an account", "Reads a bank account")),
        (parameter("account", "code", "account account_id account_number iban", "The [account|account number]", "Which account"),),
        Phrasings(("{q} the balance of account {account}", "how much money is on account {account}", "balance {account}", "{pls} check the balance of {account}", "account {account} balance", "{show} the balance of the account {account}"), ("what is left on account {account}", "is there money on account {account}")),
        follows=("[and|what about] {account}",),
    ),
    Family(
        "parcel",
        Phrasings(("track_package", "track_parcel", "track_shipment", "package_status", "get_tracking"), ("parcel_position", "delivery_info")),
        Phrasings(("Track a [package|parcel|shipment]", "[Package|Parcel] tracking", "Returns where a [package|parcel] is"), ("The way of a parcel", "Deliveries on the road")),
        (parameter("number", "code", "tracking_number tracking_id number package_id", "The tracking number", "Number of the [package|parcel]"),),
        Phrasings(("where is my [package|parcel] {number}", "{pls} track [package|parcel|my package|the parcel] {number}", "tracking number {number}", "track {number}", "when does my [package|parcel] {number} arrive", "[package|parcel] {number}"), ("my parcel {number} is late", "did {number} get delivered")),
        follows=("[and|what about] {number}",),
    ),
    Family(
        "file-read",
        Phrasings(("read_file", "open_file", "get_file", "cat", "file_read"), ("load_file", "show_contents")),
        Phrasings(("Read a file", "Returns the contents of a file", "Reads [text from|] a file"), ("What is in a file", "File contents")),
        (_FILE,),
        Phrasings(("{pls} read [the file|] {file}", "{pls} open [the file|] {file}", "what is in [the file|] {file}", "{show} the contents of {file}", "read {file}", "{show} me the file {file}"), ("what does {file} say", "print what is in {file}")),
    ),
    Family(
        "file-write",
        Phrasings(("write_file", "save_file", "create_file", "file_write"), ("store_text", "put_file")),
        Phrasings(("Write [text to|] a file", "Saves text in a file", "Creates a file with [content|text]"), ("Stores text on disk", "New files")),
        (_FILE, parameter("text", "text", "content text data contents", "The [content|text]", "What to write")),
        Phrasings(
            ("{pls} write '{text}' to [the file|] {file}", "{pls} save '{text}' [in|to] {file}", "{pls} create [the file|a file] {file} with [the content|] '{text}'", "write to {file}: {text}", "save this in {file}: {text}", '{pls} put "{text}" into [the file|] {file}'),
            ("{file} should contain '{text}'", "store '{text}' as {file}"),
        ),
    ),
    Family(
        "file-delete",
        Phrasings(("delete_file", "remove_file", "rm", "file_delete"), ("erase_file", "trash")),
        Phrasings(("Delete a file", "Removes a file", "Deletes the file at a path"), ("Erases files", "Puts files into the bin")),
        (_FILE,),
        Phrasings(("{pls} delete [the file|] {file}", "{pls} remove [the file|] {file}", "delete {file}", "rm {file}", "I don't need {file} any more, delete it", "{file} can be deleted"), ("erase {file}", "throw {file} away")),
    ),
    Family(
        "http",
        Phrasings(("fetch_url", "open_url", "get_page", "http_get", "download_page", "fetch"), ("load_website", "visit")),
        Phrasings(("Fetch a [URL|web page]", "Opens a web page", "Downloads the page at a URL"), ("Visits a website", "What a web address shows")),
        (parameter("url", "site", "url address link page", "The [URL|address]", "Which page"),),
        Phrasings(("{pls} open {url}", "{pls} fetch {url}", "what is on {url}", "{pls} read the page {url}", "go to {url}", "get {url}", "{pls} summarize {url}"), ("visit {url}", "what does the website {url} say")),
    ),
    Family(
        "note",
        Phrasings(("create_note", "add_note", "save_note", "take_note", "write_note"), ("jot_down", "new_note")),
        Phrasings(("Create a note", "Saves a note", "Write [something|a text] down [as a note|]"), ("Keeps a thought", "A notebook")),
        (parameter("text", "text", "text note content body", "The [text|note]", "What to write down"),),
        Phrasings(("{pls} make a note: {text}", "note: {text}", "{pls} write [a note|down]: {text}", "{pls} save the note '{text}'", "{pls} take a note that says '{text}'", "new note: {text}"), ("jot down {text}", "keep this in my notes: {text}")),
    ),
    Family(
        "machine",
        Phrasings(("get_machine_status", "machine_status", "check_machine", "get_sensor", "read_sensor"), ("fetch_machine", "sensor_value")),
        Phrasings(("Get the status of a machine", "Returns [the state of a machine|sensor values]", "Machine status"), ("How a machine is doing", "Values of machines")),
        (parameter("id", "code", "machine_id id machine device_id", "The [id of the|] machine", "Which machine"),),
        Phrasings(("{q} the status of machine {id}", "is machine {id} running", "machine {id}", "{pls} check machine {id}", "how is machine {id} doing", "what is the state of machine {id}"), ("does machine {id} work", "anything wrong with machine {id}")),
        follows=("[and|what about] {id}",),
    ),
    Family(
        "vacation",
        Phrasings(("request_vacation", "request_time_off", "book_vacation", "apply_for_leave", "request_leave"), ("take_holiday", "days_off")),
        Phrasings(("Request vacation", "Requests [time off|leave]", "Apply for [leave|days off]"), ("Holidays from work", "When somebody is away")),
        (parameter("start", "date", "start_date from start first_day", "The first day", "Start [date|]"), parameter("end", "date", "end_date to end last_day until", "The last day", "End [date|]")),
        Phrasings(
            ("{pls} request vacation from {start} to {end}", "I want [vacation|leave|time off] from {start} to {end}", "vacation from {start} until {end}", "vacation {start} to {end}", "{pls} book [my|] [vacation|leave|time off] from {start} to {end}", "{pls} take days off from {start} until {end}"),
            ("my holidays are from {start} to {end}", "I am away from {start} until {end}, request it"),
        ),
    ),
    Family(
        "doctor",
        Phrasings(("book_appointment", "make_appointment", "schedule_appointment", "doctor_appointment"), ("see_doctor", "new_appointment")),
        Phrasings(("Book an appointment [with a doctor|]", "Makes an appointment", "Schedule an appointment with somebody"), ("Visits to the doctor", "When somebody can be seen")),
        (parameter("who", "name", "doctor with name provider", "The doctor", "With whom"), parameter("day", "day", "date day when", "The [day|date]", "When")),
        Phrasings(
            (
                "{pls} book an appointment with [doctor|Dr.] {who} [for|on|] {day}",
                "{pls} make an appointment with [doctor|Dr.] {who} {day}",
                "appointment with [Dr.|doctor] {who}, {day}",
                "I need an appointment with [Dr.|doctor] {who} [for|on|] {day}",
                "{pls} schedule an appointment {day} with [Dr.|doctor] {who}",
                "appointment {day} with [doctor|Dr.] {who}",
            ),
            ("can [Dr.|doctor] {who} see me {day}", "I have to visit [Dr.|doctor] {who} {day}"),
        ),
    ),
    Family(
        "country",
        Phrasings(("get_country_info", "country_info", "get_population", "country_facts", "get_country"), ("about_country", "read_atlas")),
        Phrasings(("Get [facts|information] about a country", "Information about countries", "Country [facts|data]"), ("An atlas", "What is known of a country")),
        (parameter("country", "country", "country name country_name", "The [name of the|] country", "Which country"),),
        Phrasings(("{q} the [capital|population|currency|size|flag] of {country}", "{pls} tell me about the country {country}", "how many people live in {country}", "country info {country}", "what is the capital of {country}", "facts about {country}"), ("how big is {country}", "which money do they use in {country}")),
        is_general=True,
    ),
    Family(
        "holidays",
        Phrasings(("get_holidays", "public_holidays", "list_holidays", "holidays"), ("free_days", "bank_holidays")),
        Phrasings(("Get the public holidays of a country", "Public holidays [in a country and a year|]", "Lists holidays"), ("When nobody works", "Bank holidays")),
        (parameter("country", "country", "country country_name region", "The country", "Which country"), parameter("year", "year", "year in_year", "The year", "Which year", tail="in [the year|] {year}")),
        Phrasings(
            ("{q} the [public|] holidays of {country}", "{show} the public holidays [in|of] {country}", "holidays {country}", "when are the public holidays in {country}", "which public holidays does {country} have", "public holidays in {country}"),
            ("on which days does nobody work in {country}", "bank holidays of {country}"),
        ),
    ),
    Family(
        "sun",
        Phrasings(("get_sunrise", "sunrise_sunset", "get_sunset", "sun_times"), ("daylight", "when_is_dawn")),
        Phrasings(("Get [sunrise|sunset] times", "Sunrise and sunset of a [city|place]", "Returns when the sun rises and sets"), ("How long it is light", "Daylight hours")),
        (parameter("city", "city", "city location place", "The [city|place]", "Where"),),
        Phrasings(
            ("when does the sun [rise|set|go down|go up] in {city}", "when is [sunrise|sunset] in {city}", "[sunrise|sunset] {city}", "{q} the time of [sunrise|sunset] in {city}", "[sunrise|sunset] in {city}", "{pls} tell me when the sun [rises|sets] in {city}"),
            ("how long is it light in {city}", "when does it get dark in {city}"),
        ),
        follows=("[and|what about|how about] {city}", "and in {city}"),
    ),
    Family(
        "air weather",
        Phrasings(("get_air_quality", "air_quality", "check_air", "get_aqi"), ("pollution", "smog_report")),
        Phrasings(("Get the air quality [of a city|]", "Air quality index", "Returns the air quality of a place"), ("How clean the air is", "Smog and dust")),
        (parameter("city", "place", "city location place", "The [city|place]", "Where"),),
        Phrasings(("{q} the air quality in {city}", "how is the air in {city}", "air quality {city}", "is the air in {city} [clean|good|bad]", "how [good|bad|clean] is the air in {city}", "{pls} check the air quality in {city}"), ("is there smog in {city}", "can I breathe in {city}")),
        follows=("[and|what about|how about] {city}", "and in {city}"),
    ),
    Family(
        "coin-flip",
        Phrasings(("flip_coin", "coin_flip", "toss_coin"), ("heads_or_tails", "throw_coin")),
        Phrasings(("Flip a coin", "Flips a coin", "Tosses a coin: heads or tails"), ("Chance decides", "A coin is thrown")),
        (),
        Phrasings(("{pls} flip a coin", "{pls} toss a coin", "flip a coin for me", "heads or tails", "coin flip", "let a coin decide"), ("throw a coin", "let's see if it is heads or tails")),
    ),
    Family(
        "ip",
        Phrasings(("get_ip", "my_ip", "get_ip_address", "ip_address"), ("network_address", "whats_my_ip")),
        Phrasings(("Get the user's IP address", "Returns the IP address", "My IP address"), ("The address in the network", "Where the user is online")),
        (),
        Phrasings(("what is my ip [address|]", "{q} my ip address", "my ip", "{show} my IP address", "which IP address do I have", "ip address"), ("do you see my ip", "find out my IP")),
    ),
    Family(
        "orders-list order",
        Phrasings(("list_orders", "get_orders", "my_orders", "show_orders"), ("order_history", "all_orders")),
        Phrasings(("List [all|the] orders", "Lists the orders [of the user|]", "Returns all orders"), ("What was ordered so far", "Order history")),
        (parameter("status", "", "status state filter", "The status [of the orders|]", choices=(("open", "open"), ("shipped", "shipped"), ("cancelled", "cancelled")), tail="that are {status}"),),
        Phrasings(("{show} [all|my|the] orders", "which orders [are there|do I have]", "list [my|all|the] orders", "my orders", "what have I ordered", "what are my orders"), ("what did I order so far", "everything I ordered")),
    ),
    Family(
        "ticket",
        Phrasings(("assign_ticket", "assign_issue", "ticket_assign"), ("give_ticket", "delegate_ticket")),
        Phrasings(("Assign a ticket to [somebody|a person]", "Assigns a ticket", "Gives a ticket to [an agent|a person]"), ("Who cares for a ticket", "Delegates complaints")),
        (parameter("id", "code", "ticket_id ticket id number", "The [id|number] of the ticket", "Ticket [id|number]"), parameter("to", "person", "assignee to agent user", "The [person|agent]", "Who gets it")),
        Phrasings(("{pls} assign ticket {id} to {to}", "assign {to} to ticket {id}", "ticket {id} goes to {to}", "{pls} give ticket {id} to {to}", "{to} should [take|do|get] ticket {id}", "ticket {id}: assign to {to}"), ("let {to} work on ticket {id}", "{to} is responsible for ticket {id} now")),
    ),
    Family(
        "command",
        Phrasings(("run_query", "query_database", "sql_query", "execute_sql", "query_table"), ("ask_database", "read_rows")),
        Phrasings(("Get [the|] rows of a database table", "Query a table of the database", "Reads a table"), ("What a table holds", "Rows of the database")),
        (parameter("table", "word", "table table_name name", "The [name of the|] table", "Which table"), parameter("limit", "small", "limit max_rows rows", "[How many|Number of] rows", type="integer", tail=", {limit} rows")),
        Phrasings(("{show} the [rows of the|] table {table}", "{pls} query the [database|] table {table}", "database table {table}", "what is in the table {table}", "{pls} read the table {table} [from the database|]", "rows of table {table}"), ("what does the table {table} hold", "select everything from {table}")),
    ),
    Family(
        "branch",
        Phrasings(("create_branch", "git_branch", "new_branch", "make_branch"), ("start_branch", "fork_branch")),
        Phrasings(("Create a [git|] branch", "Creates a branch [in a repository|]", "New branch"), ("Branches of the code", "Starts new work in git")),
        (parameter("name", "word", "name branch branch_name", "The name [of the branch|]", "What to call it"), parameter("base", "word", "base from source from_branch", "The branch to start from", "Base branch", tail="from {base}")),
        Phrasings(("{pls} create a branch [called|named|] {name}", "new branch {name}", "{pls} make a branch [called|named] {name}", "branch {name}", "{pls} create the git branch {name}", "I need a branch called {name}"), ("let's work on a new branch {name}", "git: start the branch {name}")),
    ),
)
