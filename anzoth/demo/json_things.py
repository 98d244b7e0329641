"""Which kinds of objects do people most often want extracted from texts?

A table: for each kind the properties that it may have, under the names that people give them, and
texts that mention them. What is not among these kinds is left to `anzoth.demo.json_invented`.

Does not know: how the values are drawn, or how the schema that asks for them is written.
"""

# ruff: noqa: E501  (one pattern a line)
# Longer than other modules: nearly all of it is one table.

from __future__ import annotations

from dataclasses import dataclass

from anzoth.demo.draw import Phrasings
from anzoth.demo.json_values import Field, verbatim


@dataclass(slots=True, frozen=True)
class Thing:
    """One kind of object that people extract from texts."""

    name: str
    fields: tuple[Field, ...]
    texts: Phrasings
    """`{field}` is the value of the field whose first name that is; never inside of alternatives."""
    group: tuple[str, ...] = ()
    """The name of an object that a schema may put some of the fields into, and their names."""


_NAME = Field("person", ("name", "full_name", "person_name"))
_CITY = Field("city", ("city", "town", "place"))
_EMAIL = Field("email", ("email", "email_address", "mail"))
_PRIORITY = Field("choice", ("priority", "urgency"), verbatim("low", "medium", "high", "urgent"))

# fmt: off
THINGS = (
    Thing(
        "person",
        (_NAME, Field("age", ("age", "years")), _CITY, _EMAIL, Field("job", ("job", "occupation", "profession"))),
        Phrasings(
            (
                "{name} is {age} years old and lives in {city}.",
                "[My name is|I am|I'm] {name}. I am {age} and I live in {city}. [Write to|My email is] {email}.",
                "{name}, {age}, from {city}",
                "{name} lives in {city} and works as a {job}.",
                "[Meet|This is] {name} from {city}. [Email|Mail]: {email}. Age: {age}.",
                "{name} is {age}. The job: {job}. {city} is home now.",
                "Our new colleague {name} ({age}) moved here from {city} to work as a {job}.",
                "{name} turned {age} last week in {city}.",
                "Please create a person: {name} from {city}, {age} years old.",
            ),
            (
                "At the age of {age}, {name} still lives in {city} and can be reached at {email}.",
                "I met {name} in {city}. Job: {job}, age {age}.",
                "{city} is where {name} ({age} years) lives.",
            ),
        ),
    ),
    Thing(
        "event",
        (
            Field("event", ("name", "title", "event", "event_name")),
            Field("day", ("date", "day", "when")),
            Field("time", ("time", "start_time", "start")),
            Field("city", ("location", "place", "city", "where")),
            Field("people", ("participants", "attendees", "people", "guests")),
        ),
        Phrasings(
            (
                "{participants} are going to a {name} on {date}.",
                "{participants} [will attend|are invited to|go to|are joining] the {name} in {location} on {date}.",
                "The {name} takes place on {date} at {time} in {location}.",
                "{name} with {participants} on {date}",
                "[Reminder:|Note:|Hi all,] the {name} is on {date} at {time}. {participants} will be there.",
                "On {date} at {time}, {participants} meet in {location} for the {name}.",
                "Put the {name} in {location} into the calendar: {date}, {time}.",
                "[Join us|Come] for the {name} in {location}! It starts at {time} on {date}.",
                "Schedule a {name} with {participants} for {date} at {time}.",
            ),
            (
                "There is a {name} on {date}, and {participants} want to go.",
                "{date}, {time}: {name} in {location} for {participants}.",
                "We have planned the {name} for {date} with {participants}.",
            ),
        ),
    ),
    Thing(
        "invoice",
        (
            Field("code", ("invoice_number", "number", "invoice_id", "id")),
            Field("iso", ("date", "invoice_date", "issued")),
            Field("price", ("total", "amount", "total_amount")),
            Field("currency", ("currency", "currency_code")),
            Field("company", ("vendor", "company", "supplier", "seller")),
            Field("flag", ("paid", "is_paid"), {
                True: Phrasings(("It is paid.", "It has been paid.", "Already paid, thanks."), ("Payment was received.", "It was paid in full.")),
                False: Phrasings(("It is not paid yet.", "It is unpaid.", "Payment is still open."), ("We still wait for the payment.", "It has not been paid."))
            }),
        ),
        Phrasings(
            (
                "Invoice {invoice_number} from {date}: total {total} {currency}.",
                "{vendor} sent invoice {invoice_number} on {date}. The total is {total} {currency}. {paid}",
                "Invoice number: {invoice_number}\nDate: {date}\nTotal: {total} {currency}",
                "Please find attached the invoice {invoice_number} of {vendor} over {total} {currency}. {paid}",
                "The invoice {invoice_number} by {vendor} is dated {date}. Amount due: {total} {currency}.",
                "We got a bill from {vendor} ({invoice_number}), {total} {currency}, dated {date}.",
                "INVOICE {invoice_number}\n{vendor}\nIssued {date}\nTotal {total} {currency}",
                "Invoice {invoice_number}, {total} {currency}. {paid}",
            ),
            (
                "On {date} {vendor} billed us {total} {currency} with invoice {invoice_number}.",
                "Bill {invoice_number} ({date}) comes to {total} {currency}. {paid}",
            ),
        ),
    ),
    Thing(
        "order",
        (
            Field("code", ("order_id", "order_number", "id", "order")),
            Field("person", ("customer", "customer_name", "buyer", "name")),
            Field("products", ("items", "products", "articles")),
            Field("count", ("quantity", "num_items", "count")),
            Field("city", ("city", "ship_to", "destination")),
        ),
        Phrasings(
            (
                "Order {order_id}: {customer} wants {items}.",
                "{customer} ordered {items}. The order number is {order_id}.",
                "Order {order_id} by {customer} has {quantity} pieces and goes to {city}.",
                "Please ship order {order_id} to {city}: {items}.",
                "[Hi|Hello], this is {customer}. My order {order_id} with {items} has not arrived.",
                "Order ID {order_id}, quantity {quantity}, customer {customer}",
                "{customer} from {city} bought {items} (order {order_id}, {quantity} in total).",
                "New order {order_id}\nCustomer: {customer}\nItems: {items}\nQuantity: {quantity}",
            ),
            (
                "We received order {order_id} from {customer} for {items}.",
                "{quantity} pieces were ordered by {customer}, to be sent to {city} as {order_id}.",
            ),
        ),
    ),
    Thing(
        "product",
        (
            Field("product", ("name", "product", "product_name", "title")),
            Field("price", ("price", "cost", "price_eur")),
            Field("color", ("color", "colour")),
            Field("name", ("brand", "maker", "manufacturer")),
            Field("flag", ("in_stock", "available", "is_available"), {
                True: Phrasings(("It is in stock.", "It is available now.", "In stock: yes."), ("You can buy it today.", "We have it in stock.")),
                False: Phrasings(("It is not in stock.", "It is sold out.", "In stock: no."), ("It is no longer available.", "We do not have it in stock."))
            }),
        ),
        Phrasings(
            (
                "The {name} costs {price} euros and comes in {color}.",
                "Brand: {brand}. Product: {name}. Price: {price}. {in_stock}",
                "[For sale|New|Offer]: {name} in {color}, only {price} dollars. {in_stock}",
                "The {name} by {brand} is {color} and costs ${price}.",
                "I bought the {name} from {brand} for {price} euros.",
                "Our {name} is now {price} EUR. The color is {color}. {in_stock}",
                "{brand} sells the {name} in {color}. {in_stock}",
                "Add the {name} to the shop, price {price}, color {color}.",
            ),
            (
                "For ${price} you get the {name} made by {brand} in {color}.",
                "The price of the {name} is {price} euros. {in_stock} It is {color}.",
            ),
        ),
    ),
    Thing(
        "address",
        (
            Field("street", ("street", "street_address", "address_line")),
            _CITY,
            Field("zip", ("zip", "zip_code", "postal_code", "postcode")),
            Field("country", ("country",)),
            _NAME,
        ),
        Phrasings(
            (
                "{street}, {city} {zip}",
                "[Send it|Ship it|Please deliver] to {name}, {street}, {zip} {city}, {country}.",
                "{name} lives at {street} in {city}, {country}.",
                "My address is {street}, {zip} {city}.",
                "Street: {street}\nCity: {city}\nZip: {zip}\nCountry: {country}",
                "The office moved to {street} in {city}. The zip code is {zip}.",
                "{name}\n{street}\n{zip} {city}\n{country}",
                "We are at {street}, {city}, {country}.",
            ),
            (
                "You can find {name} at {street} in {zip} {city}.",
                "The new address in {country} is {street}, {city}, zip {zip}.",
            ),
        ),
        ("address", "street", "city", "zip", "country"),
    ),
    Thing(
        "ticket",
        (
            Field("choice", ("category", "type", "topic", "department"), {
                "billing": Phrasings(
                    ("I was charged twice", "my invoice is wrong", "the payment failed", "I want my money back"),
                    ("the bill is too high", "I paid but was charged again"),
                ),
                "technical": Phrasings(
                    ("the app crashes", "I see an error message", "the page does not load", "the screen stays black"),
                    ("the program crashes on start", "an error appears on the page"),
                ),
                "account": Phrasings(
                    ("I cannot log in", "I forgot my password", "my account is locked", "please delete my account"),
                    ("my login does not work", "I need a new password"),
                )
            }),
            _PRIORITY,
            Field("code", ("ticket_id", "id", "ticket_number", "ticket")),
            Field("person", ("reporter", "customer", "user", "name")),
        ),
        Phrasings(
            (
                "Ticket {ticket_id}: {category}. Priority: {priority}.",
                "{reporter} writes: {category}. The priority is {priority}.",
                "[Hello|Hi], this is {reporter}: {category}.",
                "{ticket_id} from {reporter}, priority {priority}: {category}.",
                "Help, {category}! This has {priority} priority. [Thanks|Regards|Best], {reporter}",
                "Open a ticket with {priority} priority for {reporter}: {category}.",
                "[Subject|Problem]: {category}. [Sent by|From] {reporter}. Ticket {ticket_id}.",
            ),
            (
                "{reporter} opened {ticket_id} with priority {priority} because {category}.",
                "Since today {category}. Priority {priority}. My name is {reporter}.",
            ),
        ),
    ),
    Thing(
        "review",
        (
            Field("choice", ("sentiment", "label", "mood", "tone"), {
                "positive": Phrasings(
                    ("[The food|The service|The movie|The hotel|The app|Everything|Today] was [great|amazing|wonderful|lovely|very good].", "I am so happy with [this|the result|the service].", "[I|We] [love|really like|enjoy] [it|this product|this place].", "[It is|This is|It was] [great|excellent|wonderful|fantastic|perfect].", "[The best|What a great] [purchase|buy|experience]!", "[I am|We are] very [happy|pleased|satisfied] with it.", "It works [perfectly|very well], [I recommend it|highly recommended].", "[Great|Excellent|Amazing] quality, [will buy again|thank you]!"),
                    ("I [like it a lot|enjoy it very much] and recommend it.", "It is [wonderful|excellent], I am happy with it."),
                ),
                "negative": Phrasings(
                    ("[The food|The service|The movie|The hotel|The app|Everything|Today] was [bad|terrible|a disaster|very poor|horrible].", "I am so angry about [this|the result|the service].", "[I|We] [hate|dislike|really regret buying] [it|this product|this place].", "[It is|This is|It was] [terrible|awful|horrible|very bad|useless].", "[The worst|What a bad] [purchase|buy|experience]!", "[I am|We are] very [unhappy|disappointed|angry].", "It [broke|stopped working] after [a day|a week], [do not buy it|never again].", "[Bad|Poor|Terrible] quality, [I want a refund|a waste of money]!"),
                    ("I [do not like it|regret buying it] and want a refund.", "It is [awful|terrible], I am disappointed."),
                ),
                "neutral": Phrasings(
                    ("[The food|The service|The movie|The hotel|The app|Everything|Today] was [okay|average|so-so|neither good nor bad].", "[It is|This is|It was] [okay|average|fine, nothing special|neither good nor bad].", "It does what it should, [nothing more|no more and no less].", "[I have|We have] no strong opinion about it.", "[Not great, not bad|Not bad, not great|So-so|Just average]."),
                    ("It is [okay|average], neither great nor bad.", "Nothing special, just [fine|okay]."),
                )
            }),
            Field("product", ("product", "item", "product_name")),
            Field("person", ("author", "reviewer", "user")),
            Field("count", ("rating", "score", "points")),
        ),
        Phrasings(
            (
                "{sentiment}",
                "Customer review: {sentiment}",
                "I bought the {product}. {sentiment}",
                "Review of the {product} by {author}: {sentiment}",
                "{author} wrote about the {product}: {sentiment} Rating: {rating}.",
                "[Feedback|Comment] from {author}: {sentiment}",
                "The {product} arrived yesterday. {sentiment} I give it {rating} points.",
            ),
            ("{author} says: {sentiment}", "About the {product}: {sentiment}", "A customer said: {sentiment}"),
        ),
    ),
    Thing(
        "booking",
        (
            Field("person", ("guest", "name", "guest_name", "customer")),
            Field("company", ("hotel", "restaurant", "venue")),
            Field("day", ("date", "check_in", "day", "arrival")),
            Field("count", ("guests", "num_guests", "people", "party_size")),
            Field("time", ("time", "arrival_time")),
        ),
        Phrasings(
            (
                "Please book a table at {hotel} for {guests} people on {date} at {time}.",
                "{guest} reserved {hotel} for {date}, {guests} guests.",
                "I'd like to reserve for {guests} people at {time} on {date}. [My name is|The name is] {guest}.",
                "Booking confirmed: {hotel}, {date}, {time}, guest {guest}.",
                "{guest} arrives at {hotel} on {date} with {guests} people.",
                "Reservation for {guest}: {guests} guests at {hotel}, {date}, {time}",
                "A party of {guests} will come to {hotel} on {date}. Contact: {guest}.",
            ),
            (
                "On {date} at {time}, {guest} has a reservation at {hotel} for {guests} people.",
                "Can you get us a table for {guests} at {hotel} on {date}? It is for {guest}.",
            ),
        ),
    ),
    Thing(
        "contact",
        (
            _NAME,
            _EMAIL,
            Field("phone", ("phone", "phone_number", "tel", "mobile")),
            Field("company", ("company", "employer", "organization")),
            Field("job", ("job_title", "role", "position")),
        ),
        Phrasings(
            (
                "[Contact|Reach|Call] {name} at {phone} or {email}.",
                "{name} ({company}), {email}, {phone}",
                "{name} works for {company}. The email is {email}.",
                "My phone number is {phone} and my email is {email}. [Best|Regards|Thanks], {name}",
                "{name} is the {job_title} at {company}. Phone: {phone}.",
                "Name: {name}\nCompany: {company}\nRole: {job_title}\nPhone: {phone}\nEmail: {email}",
                "Please save {name} with the number {phone}. The company is {company}.",
                "[Write to|Send mail to] {email}, that is {name}, our {job_title}.",
            ),
            (
                "You can call {name} of {company} under {phone} or write to {email}.",
                "{company} has a new {job_title}: {name}, {email}.",
            ),
        ),
    ),
    Thing(
        "book",
        (
            Field("book", ("title", "book", "book_title", "name")),
            Field("person", ("author", "writer", "written_by")),
            Field("year", ("year", "published", "publication_year")),
            Field("integer", ("pages", "num_pages", "page_count")),
            Field("company", ("publisher",)),
        ),
        Phrasings(
            (
                '"{title}" by {author} was published in {year}.',
                "{author} wrote {title} in {year}.",
                "[I am reading|I just finished|Have you read] {title} by {author}.",
                "{title} ({year}) by {author}, {pages} pages",
                "The book {title} has {pages} pages and was written by {author}.",
                "{publisher} published {title} by {author} in {year}. It has {pages} pages.",
                "Title: {title}\nAuthor: {author}\nYear: {year}\nPages: {pages}",
            ),
            (
                "In {year}, {author} published the book {title} with {publisher}.",
                "My favourite book is {title}, {pages} pages, author {author}.",
            ),
        ),
    ),
    Thing(
        "flight",
        (
            Field("flight", ("flight_number", "flight", "flight_no")),
            Field("city", ("origin", "from", "departure_city")),
            Field("city", ("destination", "to", "arrival_city")),
            Field("day", ("date", "day", "departure_date")),
            Field("time", ("time", "departure_time", "departure")),
        ),
        Phrasings(
            (
                "Flight {flight_number} from {origin} to {destination} leaves at {time} on {date}.",
                "I [fly|travel] from {origin} to {destination} on {date}.",
                "Book a flight from {origin} to {destination} for {date}.",
                "{flight_number}: {origin} to {destination}, {date}, {time}",
                "On {date} we take flight {flight_number} to {destination}. It leaves {origin} at {time}.",
                "Find me a flight to {destination} from {origin} on {date} at {time}.",
                "The flight {flight_number} to {destination} is on {date}.",
            ),
            (
                "My flight to {destination} starts in {origin} on {date} at {time}, number {flight_number}.",
                "We leave {origin} on {date} and fly to {destination} with {flight_number}.",
            ),
        ),
        ("route", "origin", "destination"),
    ),
    Thing(
        "task",
        (
            Field("phrase", ("title", "task", "name", "summary")),
            Field("person", ("assignee", "owner", "assigned_to", "responsible")),
            Field("day", ("due_date", "deadline", "due")),
            _PRIORITY,
            Field("flag", ("done", "completed", "is_done"), {
                True: Phrasings(("It is done.", "Done: yes.", "It is already finished."), ("The work is finished.", "That is done now.")),
                False: Phrasings(("It is not done.", "Done: no.", "It is not finished yet."), ("The work is not finished.", "That is not done yet."))
            }),
        ),
        Phrasings(
            (
                'Task "{title}" for {assignee}, due {due_date}.',
                '{assignee} has to do "{title}" by {due_date}. Priority: {priority}.',
                "Todo: {title}. Priority {priority}. {done}",
                'Assign "{title}" to {assignee} with {priority} priority.',
                'The task "{title}" belongs to {assignee}. {done}',
                "Title: {title}\nAssignee: {assignee}\nDue: {due_date}\nPriority: {priority}",
                'Remind {assignee} of "{title}" on {due_date}.',
            ),
            (
                'The deadline for "{title}" is {due_date} and {assignee} is responsible. {done}',
                '{assignee} works on "{title}" (priority {priority}, until {due_date}).',
            ),
        ),
    ),
    Thing(
        "recipe",
        (
            Field("food", ("dish", "name", "recipe", "title")),
            Field("foods", ("ingredients", "items", "needs")),
            Field("count", ("minutes", "cooking_time", "duration_minutes")),
            Field("count", ("servings", "portions", "serves")),
            Field("flag", ("vegetarian", "is_vegetarian"), {
                True: Phrasings(("It is vegetarian.", "Vegetarian: yes.", "There is no meat in it."), ("This is a vegetarian dish.",)),
                False: Phrasings(("It is not vegetarian.", "Vegetarian: no.", "There is meat in it."), ("This is not a vegetarian dish.",))
            }),
        ),
        Phrasings(
            (
                "For the {dish} you need {ingredients}.",
                "My {dish} takes {minutes} minutes and needs {ingredients}. {vegetarian}",
                "Mix {ingredients} and cook for {minutes} minutes. The {dish} serves {servings}.",
                "Recipe: {dish}\nIngredients: {ingredients}\nTime: {minutes} minutes\nServings: {servings}",
                "The {dish} for {servings} people is ready in {minutes} minutes. {vegetarian}",
                "We make the {dish} from {ingredients} for {servings} people.",
            ),
            (
                "To cook the {dish}, take {ingredients} and wait {minutes} minutes.",
                "The {dish} is made of {ingredients}. {vegetarian}",
            ),
        ),
    ),
    Thing(
        "job",
        (
            Field("job", ("position", "job_title", "title", "role")),
            Field("company", ("company", "employer")),
            _CITY,
            Field("integer", ("salary", "pay", "monthly_salary")),
            Field("skills", ("skills", "requirements", "required_skills")),
            Field("flag", ("remote", "is_remote"), {
                True: Phrasings(("Remote work is possible.", "Remote: yes.", "You can work from home."), ("The job is fully remote.",)),
                False: Phrasings(("Remote work is not possible.", "Remote: no.", "You cannot work from home."), ("The job is not remote.",))
            }),
        ),
        Phrasings(
            (
                "{company} is [looking for|hiring|searching for] a {position} in {city}.",
                "{company} in {city} needs a {position} with skills in {skills}. {remote}",
                "Position: {position}. Salary: {salary}. Skills: {skills}.",
                "Job offer: {position} at {company}, {city}. The salary is {salary}. {remote}",
                "Work as a {position} for {company}! You should know {skills}.",
                "Wanted: {position} ({city}), pay {salary}, skills: {skills}. {remote}",
            ),
            (
                "At {company} in {city} there is an open job as a {position} for {salary}.",
                "{company} wants to hire a {position} who knows {skills}. {remote}",
            ),
        ),
    ),
    Thing(
        "resume",
        (_NAME, Field("skills", ("skills", "hobbies", "interests")), Field("count", ("experience_years", "years_of_experience", "experience")), Field("people", ("references", "contacts")), Field("job", ("job", "profession", "current_job"))),
        Phrasings(
            (
                "{name} is good at {skills}.",
                "{name} has {experience_years} years of experience as a {job} and knows {skills}.",
                "I am {name} and I know {skills}. Ask {references} about me.",
                "Name: {name}\nProfession: {job}\nSkills: {skills}\nReferences: {references}",
                "{name} worked as a {job} for {experience_years} years.",
                "The candidate {name} brings {experience_years} years of experience and these skills: {skills}.",
            ),
            (
                "We talked to {name}, who has worked for {experience_years} years and learned {skills}.",
                "{references} recommend {name} as a {job}.",
            ),
        ),
    ),
    Thing(
        "payment",
        (
            Field("price", ("amount", "value", "sum", "total")),
            Field("currency", ("currency", "currency_code")),
            Field("person", ("sender", "payer", "from")),
            Field("person", ("recipient", "payee", "to", "receiver")),
            Field("code", ("reference", "transaction_id", "note")),
        ),
        Phrasings(
            (
                "{sender} sent {amount} {currency} to {recipient}.",
                "{recipient} received {amount} {currency} from {sender}. Reference: {reference}.",
                "Transfer {amount} {currency} to {recipient}, reference {reference}.",
                "Payment {reference}: {amount} {currency} from {sender} to {recipient}",
                "From: {sender}\nTo: {recipient}\nAmount: {amount} {currency}\nReference: {reference}",
                "Please pay {recipient} {amount} {currency}.",
            ),
            (
                "{amount} {currency} went from {sender} to {recipient} with the reference {reference}.",
                "I, {sender}, owe {recipient} {amount} {currency}.",
            ),
        ),
    ),
    Thing(
        "movie",
        (
            Field("book", ("title", "movie", "movie_title", "film")),
            Field("person", ("director", "directed_by")),
            Field("year", ("year", "release_year", "released")),
            Field("people", ("actors", "cast", "stars")),
            Field("choice", ("genre", "type"), verbatim("drama", "comedy", "horror", "action", "romance")),
        ),
        Phrasings(
            (
                "{director} directed {title} in {year}.",
                "{title} is a {genre} movie with {actors}.",
                "The {genre} film {title} by {director} came out in {year}.",
                "{title} ({year}), starring {actors}",
                "Movie: {title}\nDirector: {director}\nGenre: {genre}\nCast: {actors}",
                "[Last night we watched|We saw] {title} with {actors}. The director is {director} and the genre is {genre}.",
            ),
            (
                "In the movie {title} from {year}, {actors} play. It is a {genre} film.",
                "{title}, directed by {director}, is a {genre} film of {year}.",
            ),
        ),
    ),
    Thing(
        "animal",
        (
            Field("name", ("name", "pet_name", "animal_name")),
            Field("choice", ("species", "animal", "type", "kind"), verbatim("dog", "cat", "horse", "rabbit", "parrot")),
            Field("color", ("color", "fur_color", "colour")),
            Field("person", ("owner", "owner_name")),
            Field("flag", ("vaccinated", "is_vaccinated"), {
                True: Phrasings(("It is vaccinated.", "Vaccinated: yes.", "It has all vaccinations."), ("It was vaccinated.",)),
                False: Phrasings(("It is not vaccinated.", "Vaccinated: no.", "It has no vaccinations yet."), ("It was not vaccinated.",))
            }),
        ),
        Phrasings(
            (
                "{owner} has a {species} called {name}.",
                "The {species} {name} is {color} and belongs to {owner}. {vaccinated}",
                "My {species} is called {name}. The color is {color}.",
                "{name} is a {color} {species}. {vaccinated}",
                "Name: {name}. Species: {species}. Owner: {owner}. {vaccinated}",
                "Lost: {color} {species}, answers to {name}. Please call {owner}.",
            ),
            (
                "{owner} bought a {color} {species} and named it {name}.",
                "{name}, the {species} of {owner}, needs a doctor. {vaccinated}",
            ),
        ),
    ),
    Thing(
        "weather",
        (
            Field("city", ("city", "location", "place")),
            Field("count", ("temperature", "temperature_celsius", "degrees")),
            Field("choice", ("condition", "weather", "sky", "forecast"), verbatim("sunny", "cloudy", "rainy", "snowy", "windy")),
            Field("day", ("date", "day")),
        ),
        Phrasings(
            (
                "It is {condition} in {city} with {temperature} degrees.",
                "On {date} it will be {condition} in {city}, about {temperature} degrees.",
                "{city}: {temperature} degrees, {condition}",
                "The forecast for {city} on {date} is {condition}.",
                "{date}, {city}: {condition}, {temperature} degrees",
                "We had {temperature} degrees in {city} on {date}. It was {condition}.",
            ),
            (
                "Expect a {condition} day with {temperature} degrees in {city} on {date}.",
                "In {city} the weather is {condition}, at {temperature} degrees.",
            ),
        ),
    ),
    Thing(
        "car",
        (
            Field("name", ("make", "brand", "model")),
            Field("year", ("year", "model_year", "built")),
            Field("color", ("color", "colour", "paint")),
            Field("integer", ("mileage", "kilometers", "km")),
            Field("code", ("license_plate", "plate", "registration")),
            Field("choice", ("fuel", "fuel_type", "engine"), verbatim("petrol", "diesel", "electric", "hybrid")),
        ),
        Phrasings(
            (
                "For sale: {color} {make} from {year} with {mileage} km.",
                "The {make} with the plate {license_plate} is {color}.",
                "I drive a {fuel} {make}, built in {year}, {mileage} km.",
                "Car: {make}\nYear: {year}\nColor: {color}\nFuel: {fuel}",
                "Someone parked the {color} {make} ({license_plate}) in front of my door.",
                "{make}, {year}, {fuel}, {color}",
            ),
            (
                "The car is a {color} {make} made in {year}, license plate {license_plate}.",
                "After {mileage} km I sell my {fuel} {make}, plate {license_plate}.",
            ),
        ),
    ),
    Thing(
        "meeting",
        (
            Field("phrase", ("topic", "subject", "title", "agenda")),
            Field("day", ("date", "day")),
            Field("time", ("time", "starts_at", "start")),
            Field("digits", ("room", "room_number", "location")),
            Field("people", ("attendees", "participants", "invited")),
        ),
        Phrasings(
            (
                'Meeting about "{topic}" on {date} at {time} in room {room}.',
                "{attendees} meet on {date} in room {room}.",
                "[Hi|Hello] {attendees}, let us meet in room {room} at {time} on {date}. The topic is {topic}.",
                "Topic: {topic}\nDate: {date}\nTime: {time}\nAttendees: {attendees}",
                'Invite {attendees} to talk about "{topic}" at {time}.',
                "The meeting with {attendees} was moved to {date}, {time}. It is now in room {room}.",
            ),
            (
                'Room {room} is booked at {time} on {date} for "{topic}".',
                '{attendees} will discuss "{topic}" on {date}.',
            ),
        ),
    ),
)
# fmt: on
