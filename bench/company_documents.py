"""Short documents as a company has them, and questions that each answers alone.

Written for `small_stores.py`. Names, numbers and codes are made up.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Document:
    """What it says, in paragraphs, and what can be asked of it."""

    title: str
    text: str = field(repr=False)
    questions: tuple[str, ...] = field(repr=False)


DOCUMENTS = (
    Document(
        "X200 pump, data sheet",
        "The X200 pump weighs 14.5 kg and moves 120 litres a minute at 3.5 bar.\n\n"
        "Its warranty lasts 24 months from delivery. The seal must be replaced every 4,000 hours; "
        "the part number of the seal kit is SK-77. The motor runs on 230 V and draws 1.1 kW.\n\n"
        "Do not let the pump run dry: the bearing fails within minutes.",
        (
            "how heavy is the pump",
            "How long is the warranty?",
            "What is the part number of the seal kit?",
            "What happens if the pump runs dry?",
            "which voltage does the motor need",
        ),
    ),
    Document(
        "Holidays and leave",
        "Full-time employees have 28 days of paid leave a year, part-time employees in proportion. "
        "Days that were not taken lapse on 31 March of the following year.\n\n"
        "Leave is requested in the staff portal at least two weeks ahead; the team lead answers "
        "within three working days. Parents of a newborn get six weeks at full pay.\n\n"
        "Whoever is ill for more than three days sends a doctor's note to hr@example.org.",
        (
            "How many vacation days do I get?",
            "When do unused holidays expire?",
            "Do I need a certificate when I am sick?",
            "how far in advance must I ask for time off",
            "What do new parents get?",
        ),
    ),
    Document(
        "Lease of the warehouse in Kiel",
        "The landlord is Nordlicht Immobilien GmbH. The rent is 8,400 euros a month plus 950 euros "
        "for heating and water, due on the third working day.\n\n"
        "The lease began on 1 May 2023 and runs for five years. Either side may end it with six "
        "months' notice after the third year. The deposit is three months' rent.\n\n"
        "The tenant clears snow and keeps the sprinklers in working order.",
        (
            "Who owns the warehouse?",
            "What is the monthly rent?",
            "When can we terminate the lease?",
            "How much is the deposit?",
            "who has to clear the snow",
        ),
    ),
    Document(
        "Backups",
        "Databases are copied every night at 02:15 to the second data centre in Lund and kept for "
        "35 days. Once a month a copy goes to tape and is kept for seven years.\n\n"
        "A restore is practised each quarter; the last one took 47 minutes. Whoever needs a "
        "restore calls the operations desk at extension 5512. The encryption keys lie in the safe "
        "of the finance department.",
        (
            "How long are backups kept?",
            "When does the nightly backup run?",
            "Whom do I call to get data restored?",
            "where are the encryption keys",
            "How long did the last restore take?",
        ),
    ),
    Document(
        "Expenses when travelling",
        "Trains are booked in second class, flights in economy; flights of more than six hours may "
        "be booked in premium economy. A hotel may cost up to 140 euros a night, 190 in London and "
        "Zurich.\n\n"
        "Meals are refunded with a flat rate of 32 euros a day. Receipts are uploaded within 30 "
        "days; what comes later needs the signature of Irene Novak. Private cars: 38 cents a "
        "kilometre.",
        (
            "What is the limit for a hotel in London?",
            "Can I fly business class?",
            "how much do I get per kilometre with my own car",
            "What is the daily meal allowance?",
            "Who signs late receipts?",
        ),
    ),
    Document(
        "Minutes of the board, 14 March",
        "Present: Amara Diallo (chair), Tomas Berg, Li Wen. Apologies: Pedro Alvarez.\n\n"
        "The board approved the purchase of a laser cutter for 212,000 euros, three votes to none. "
        "The opening of the branch in Porto was put off until the autumn, because permits are "
        "missing. Tomas Berg reports on the pension fund at the next meeting, on 9 May at 10:00.",
        (
            "Who chaired the meeting?",
            "Why was the Porto branch delayed?",
            "How much does the laser cutter cost?",
            "When is the next board meeting?",
            "who was absent",
        ),
    ),
    Document(
        "First aid in the laboratory",
        "Acid on the skin: rinse with water for at least fifteen minutes and take off clothes that "
        "are soaked. Eye wash bottles hang beside each fume hood.\n\n"
        "Burns are cooled with lukewarm water, never with ice. The first-aiders are Noor Haddad "
        "(room 2.14) and Piet Jansen (room 1.03). The emergency number inside the building is 333; "
        "the defibrillator is at the reception.",
        (
            "What should I do if acid gets on my skin?",
            "Where is the defibrillator?",
            "Should I put ice on a burn?",
            "Who can give first aid?",
            "What is the internal emergency number?",
        ),
    ),
    Document(
        "Setting up the coffee machine",
        "Fill the tank with filtered water up to the mark. Switch the machine on and wait until "
        "the green light stays lit, about 90 seconds.\n\n"
        "A double espresso takes 18 g of coffee, ground fine, and runs for 27 seconds. Descale "
        "once a month with citric acid: 30 g to a litre. Error E4 means that the grounds container "
        "is missing or full.",
        (
            "What does error E4 mean?",
            "How many grams of coffee for a double espresso?",
            "how often must I descale the machine",
            "How long does it take to warm up?",
        ),
    ),
    Document(
        "Terms of delivery",
        "Goods leave the plant in Brno within five working days of the order. Delivery is free "
        "above 500 euros; below that it costs 18.90.\n\n"
        "Complaints about damage reach us in writing within eight days. Goods in original "
        "packaging may be sent back within 30 days, at the customer's expense. Invoices are due "
        "within 14 days; 2 percent are deducted for payment within seven.",
        (
            "How do I return goods?",
            "What does shipping cost for small orders?",
            "By when do I have to pay the invoice?",
            "how quickly are orders shipped",
            "Is there a discount for paying early?",
        ),
    ),
    Document(
        "Incident 2291: outage of the shop",
        "On 3 February the shop was away from 14:02 to 15:37. The cause was a certificate that had "
        "expired on the load balancer; the reminder went to the mailbox of a colleague who had "
        "left in December.\n\n"
        "Sales of about 41,000 euros were lost. Certificates are renewed by a script since then, "
        "and Hana Kimura looks after it. The status page was updated 22 minutes late.",
        (
            "Why was the shop down?",
            "How long did the outage last?",
            "How much revenue did we lose?",
            "Who is responsible for certificates now?",
        ),
    ),
    Document(
        "Welcome to the team",
        "Your badge is ready at the reception from 8:00. On the first day Samuel Okoro shows you "
        "the building; lunch in the canteen is on us for the first week.\n\n"
        "Your laptop is set up by IT on the fourth floor. Ask them for access to the wiki and the "
        "printer, whose name is PRN-4-East. The Wi-Fi for guests is called Lighthouse and its "
        "password changes every Monday.",
        (
            "Where do I get my badge?",
            "What is the printer called?",
            "What is the name of the guest wifi?",
            "who will show me around",
        ),
    ),
    Document(
        "Recipe of the red paint",
        "For 100 kg: 42 kg of binder B-9, 31 kg of iron oxide, 20 kg of water, 5 kg of chalk, 2 kg "
        "of additive. Stir for 40 minutes below 35 degrees, then sieve through 120 micrometres.\n\n"
        "The viscosity must lie between 85 and 95 KU. A batch that is too thick is thinned with "
        "water, a litre at a time. Samples are kept for two years in the cold room.",
        (
            "How much iron oxide goes into the paint?",
            "How long do we have to stir?",
            "What viscosity is right?",
            "what do I do when the paint is too thick",
            "how long are samples stored",
        ),
    ),
    Document(
        "Data protection, in short",
        "We store names, addresses and orders of customers for ten years, because tax law demands "
        "it; everything else is deleted after 18 months.\n\n"
        "Whoever wants to know what we store writes to privacy@example.org and gets an answer "
        "within one month. The data protection officer is Dr. Yusuf Aydin. We do not sell data and "
        "do not use it to train models.",
        (
            "Who is the data protection officer?",
            "How can I find out what you store about me?",
            "Do you sell my data?",
            "how long do you keep customer addresses",
        ),
    ),
    Document(
        "Apprenticeship at the workshop",
        "The apprenticeship takes three and a half years and begins on 1 September. We take six "
        "apprentices a year: four mechanics and two electricians.\n\n"
        "In the first year the pay is 1,080 euros a month. School is on Tuesdays and Fridays. "
        "Applications go to Greta Lindholm until the end of January, with the last two school "
        "reports.",
        (
            "How long does the apprenticeship last?",
            "What does an apprentice earn?",
            "Who receives applications?",
            "on which days is school",
            "How many apprentices do you take?",
        ),
    ),
)
