"""Records that look real, the same for the same seed down to the byte.

Faker is slow: it fills pools of words once, and a seeded random generator combines them.
"""

import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from faker import Faker

from connector_resources.sandbox.salesforce.ids import record_id
from connector_resources.sandbox.salesforce.records import Record, instant_text
from connector_resources.sandbox.salesforce.schema import SObjectType
from connector_resources.sandbox.salesforce.seed_trade import Trade

REFERENCE = datetime(2026, 6, 1, tzinfo=UTC)  # seeded records were last changed before this instant
_POOL = 120  # words of a kind and country; fewer for a small org, which is then made faster
_COUNTRIES = (  # locale, country, share, postal codes, ways to write a phone number (# any digit, N 2 to 9)
    ("en_US", "United States", 34, ("0####", "#####", "#####-####"), ("(212) N##-####", "+1 415-N##-####", "312.N##.####")),
    ("de_DE", "Germany", 22, ("0####", "#####"), ("+49 30 N#######", "089/N#######", "+49 (0)40 N######")),
    ("en_GB", "United Kingdom", 14, ("SW# #AA", "M# #LP", "EC#A #BB"), ("+44 20 7N## ####", "020 7N## ####", "0161 496 0###")),
    ("fr_FR", "France", 10, ("0####", "75###", "69###"), ("+33 1 4# ## ## ##", "01.4#.##.##.##", "04 9# ## ## ##")),
    ("it_IT", "Italy", 7, ("00###", "20###"), ("+39 06 N#######", "02 N#######")),
    ("nl_NL", "Netherlands", 5, ("10## AB", "30## KD"), ("+31 20 N## ####", "020-N######")),
    ("pl_PL", "Poland", 4, ("0#-###", "31-###"), ("+48 22 N## ## ##", "(12) N## ## ##")),
    ("ja_JP", "Japan", 4, ("100-00##", "060-00##"), ("+81 3-N###-####", "03-N###-####")),
)
_BRANCHES = ("Logistics", "Systems", "Foods", "Energy", "Média", "Group", "Holding", "Tools", "Labs", "& Cie")
_TITLES = (
    "CEO",
    "CFO",
    "VP Sales",
    "Head of Purchasing",
    "Buyer",
    "Accounts Payable",
    "Plant Manager",
    "IT Director",
    "Engineer",
)
_DEPARTMENTS = ("Sales", "Finance", "Procurement", "IT", "Operations", "Marketing", "R&D", "Legal")
_STATES = ("MA", "NY", "CA", "IL", "TX", "NJ", "WA", "CT")


@dataclass(frozen=True)
class _Country:
    name: str
    postal: tuple[str, ...]
    phones: tuple[str, ...]
    companies: list[str]
    firsts: list[str]
    lasts: list[str]
    streets: list[str]
    cities: list[str]


def _countries(seed: int, size: int) -> list[_Country]:
    found = []
    for locale, name, _, postal, phones in _COUNTRIES:
        faker = Faker(locale, use_weighting=False)
        faker.seed_instance(seed)
        makers = (faker.company, faker.first_name, faker.last_name, faker.street_address, faker.city)
        companies, firsts, lasts, streets, cities = ([make() for _ in range(size)] for make in makers)
        found.append(_Country(name, postal, phones, companies, firsts, lasts, streets, cities))
    return found


def _filled(pattern: str, chance: random.Random) -> str:
    digits = f"{chance.randrange(10**12):012d}"
    return "".join(
        digits[at % 12] if char == "#" else str(2 + int(digits[at % 12]) % 8) if char == "N" else char
        for at, char in enumerate(pattern)
    )


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ł", "l")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


class Seed:
    """The records of a fresh org, by sobject type and id."""

    def __init__(self, schema: dict[str, SObjectType], seed: int, accounts: int, contacts: int) -> None:
        self.schema = schema
        self.chance = random.Random(seed)  # noqa: S311 - made-up records, no secret
        self.countries = _countries(seed, min(_POOL, 20 + accounts // 8))
        self.by_name = {country.name: country for country in self.countries}
        self.taken: set[str] = set()
        self.shares = [share for _, _, share, _, _ in _COUNTRIES]
        self.users: dict[str, Record] = {}
        self.users = self._table("User", (self._user(number) for number in range(1, 6)))
        self.owners = list(self.users)
        self.accounts = self._table("Account", (self._account(number) for number in range(1, accounts + 1)))
        self.parents = list(self.accounts.values())
        self.contacts = self._table("Contact", (self._contact(number) for number in range(1, contacts + 1)))
        self.organization = self._table("Organization", iter([_organization()]))
        self.trade = Trade(self.chance, self.accounts, self.owners)
        self.traded = {sobject: self._table(sobject, rows) for sobject, rows in self.trade.tables()}

    def tables(self) -> dict[str, dict[str, Record]]:
        return {
            "Account": self.accounts,
            "Contact": self.contacts,
            **self.traded,
            "User": self.users,
            "Organization": self.organization,
        }

    def _table(self, sobject: str, rows: Iterator[Record]) -> dict[str, Record]:
        prefix = self.schema[sobject].prefix
        table = {}
        for number, row in enumerate(rows, start=1):
            record = {"Id": record_id(prefix, number)} | {name: value for name, value in row.items() if value is not None}
            table[record["Id"]] = record | self._audit(number)
        return table

    def _audit(self, number: int) -> Record:
        """When and by whom. One record in eight came with a nightly load and shares its instant with others."""
        age = self.chance.randrange(3 * 365 * 86_400_000)
        created = REFERENCE - timedelta(milliseconds=age + 1)
        changed = created + timedelta(milliseconds=self.chance.randrange(age + 1))
        if number % 8 == 0:
            changed = created.replace(hour=2, minute=0, second=0, microsecond=0) + timedelta(days=1)
            changed = min(changed, REFERENCE)
        who = self.chance.choice(self.owners) if self.users else record_id("005", 1)
        stamp = instant_text(changed)
        when = {"CreatedDate": instant_text(created), "LastModifiedDate": stamp, "SystemModstamp": stamp}
        return {**when, "CreatedById": who, "LastModifiedById": who}

    def _country(self) -> _Country:
        return self.chance.choices(self.countries, self.shares)[0]

    def _maybe(self, share: float, value: Any) -> Any:
        return value if self.chance.random() < share else None

    def _address(self, prefix: str, country: _Country) -> Record:
        pick = self.chance.choice
        return {
            f"{prefix}Street": pick(country.streets),
            f"{prefix}City": pick(country.cities),
            f"{prefix}State": pick(_STATES) if country.name == "United States" else None,
            f"{prefix}PostalCode": self._maybe(0.97, _filled(pick(country.postal), self.chance)),
            f"{prefix}Country": country.name,
        }

    def _phone(self, share: float, country: _Country) -> str | None:
        number = _filled(self.chance.choice(country.phones), self.chance)
        return number if self.chance.random() < share else None

    def _account(self, number: int) -> Record:
        chance, country = self.chance, self._country()
        name = self._company(country)
        employees = int(chance.lognormvariate(4, 1.6)) + 1
        fields = self.schema["Account"].fields
        return {
            "Name": name,
            "Type": self._maybe(0.9, chance.choice(fields["Type"].choices)),
            **self._address("Billing", country),
            **(self._address("Shipping", country) if chance.random() < 0.4 else {}),
            "Phone": self._phone(0.92, country),
            "Fax": self._phone(0.2, country),
            "AccountNumber": self._maybe(0.7, f"{number:08d}"),
            "Website": self._maybe(0.8, f"https://www.{_ascii(name) or f'company-{number}'}.example"),
            "Industry": self._maybe(0.85, chance.choice(fields["Industry"].choices)),
            "AnnualRevenue": self._maybe(0.75, round(employees * chance.uniform(40_000, 260_000), 2)),
            "NumberOfEmployees": self._maybe(0.85, employees),
            "Rating": self._maybe(0.5, chance.choice(fields["Rating"].choices)),
            "Ownership": self._maybe(0.6, chance.choice(fields["Ownership"].choices)),
            "Description": self._maybe(0.1, f"Customer since {chance.randrange(1990, 2026)}.\nPrefers e-mail; “no calls”."),
            "OwnerId": chance.choice(self.owners),
        }

    def _company(self, country: _Country) -> str:
        """A name that is rarely there twice, but sometimes is."""
        pick = self.chance.choice
        name = pick(country.companies)
        if name in self.taken and self.chance.random() < 0.97:
            name = f"{pick(country.lasts)} & {pick(country.lasts)} {pick(_BRANCHES)}"
        self.taken.add(name)
        return name

    def _address_of(self, mailbox: str, domain: str, number: int) -> str:
        """Nobody else's: a second Anna Smith of the same company gets a number."""
        address = f"{mailbox}@{domain}"[-80:]
        if address.lower() in self.taken:
            address = f"{mailbox}{number}@{domain}"[-80:]
        self.taken.add(address.lower())
        return address

    def _contact(self, number: int) -> Record:
        chance = self.chance
        parent = chance.choice(self.parents) if self.parents and chance.random() < 0.96 else {}
        country = self.by_name[parent["BillingCountry"]] if parent else self._country()
        first, last = chance.choice(country.firsts), chance.choice(country.lasts)
        mailbox = f"{_ascii(first)}.{_ascii(last)}".strip(".") or f"contact{number}"
        domain = parent.get("Website", "https://www.mail.example").removeprefix("https://www.")
        born = date(1950, 1, 1) + timedelta(days=chance.randrange(20_000))
        return {
            "AccountId": parent.get("Id"),
            "FirstName": self._maybe(0.97, first),
            "LastName": last,
            "Salutation": self._maybe(0.5, chance.choice(self.schema["Contact"].fields["Salutation"].choices)),
            "Email": self._maybe(0.93, self._address_of(mailbox, domain, number)),
            "Phone": self._phone(0.85, country),
            "MobilePhone": self._phone(0.6, country),
            "Title": self._maybe(0.85, chance.choice(_TITLES)),
            "Department": self._maybe(0.7, chance.choice(_DEPARTMENTS)),
            "Birthdate": self._maybe(0.4, born.isoformat()),
            **self._address("Mailing", country),
            "OwnerId": parent.get("OwnerId") or chance.choice(self.owners),
        }

    def _user(self, number: int) -> Record:
        country = self.countries[number % len(self.countries)]
        first, last = self.chance.choice(country.firsts), self.chance.choice(country.lasts)
        name = "integration" if number == 1 else f"user{number}"
        return {
            "Username": f"{name}@sandbox.example",
            "FirstName": "Integration" if number == 1 else first,
            "LastName": "User" if number == 1 else last,
            "Email": f"{name}@sandbox.example",
            "Alias": name[:8],
            "IsActive": number != 5,
            "UserType": "Standard",
            **dict.fromkeys(("LocaleSidKey", "LanguageLocaleKey"), "en_US"),
            "TimeZoneSidKey": "Etc/UTC",
            "EmailEncodingKey": "UTF-8",
        }


def _organization() -> Record:
    return {
        "Name": "Sandbox Trading",
        "Country": "US",
        "OrganizationType": "Developer Edition",
        "IsSandbox": True,
        "InstanceName": "SBX1",
        "DefaultLocaleSidKey": "en_US",
        "LanguageLocaleKey": "en_US",
        "TimeZoneSidKey": "Etc/UTC",
    }
