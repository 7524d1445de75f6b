"""What a field is by its name: `patient_id`, `firstName` and `gps-lat` say of their values what no pattern could."""

from __future__ import annotations

import re
from itertools import pairwise

WORDS: dict[str, str] = {
    **dict.fromkeys(("firstname", "lastname", "surname", "forename", "fullname", "givenname", "familyname"), "name"),
    **dict.fromkeys(("vorname", "nachname", "initials", "signature"), "name"),
    **dict.fromkeys(("email", "mail", "mailbox"), "email"),
    **dict.fromkeys(("phone", "telephone", "mobile", "tel", "fax", "handy", "telefon"), "phone"),
    **dict.fromkeys(("address", "street", "postcode", "zip", "zipcode", "plz", "adresse", "strasse"), "address"),
    **dict.fromkeys(("dob", "birth", "birthday", "birthdate", "dateofbirth", "geburtsdatum"), "birth"),
    **dict.fromkeys(("ssn", "passport", "nhs", "bsn", "pesel", "cpf", "aadhaar", "dni", "nir"), "national"),
    **dict.fromkeys(("mrn", "medicalrecord", "patientid", "accession"), "record"),
    **dict.fromkeys(("iban", "account", "creditcard", "cardnumber", "cvv", "pan", "bic"), "account"),
    **dict.fromkeys(("plate", "vin", "licenceplate", "licenseplate", "kennzeichen"), "vehicle"),
    **dict.fromkeys(("ip", "ipaddress", "mac", "macaddress", "imei", "imsi", "hostname"), "machine"),
    **dict.fromkeys(("lat", "latitude", "lon", "lng", "long", "longitude", "gps", "geo"), "position"),
    **dict.fromkeys(("username", "login", "userid", "nickname", "handle"), "user"),
    **dict.fromkeys(("password", "passwd", "secret", "token", "apikey", "pin"), "secret"),
}
ROLES = frozenset(
    ("patient", "person", "user", "customer", "client", "employee", "worker", "operator", "member", "owner", "driver",
     "contact", "guest", "student", "child", "mother", "father", "doctor", "physician", "rider", "author")
)  # fmt: skip
PARTS = frozenset({"first", "last", "full", "given", "family", "middle", "maiden", "nick", "insurance", "policy"})
THEIRS: dict[str, str] = {
    **dict.fromkeys(("name", "names"), "name"),
    **dict.fromkeys(("id", "no", "nr", "num", "number", "code", "key"), "record"),
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def field_kind(name: str) -> str | None:
    """What kind of identifier a field of this name holds; None where the name says nothing.

    >>> field_kind("patientName"), field_kind("customer_no"), field_kind("e-mail"), field_kind("load_kn")
    ('name', 'record', 'email', None)
    """
    words = [word.lower() for word in _WORD.findall(name)]
    for first, second in pairwise(words):
        if first in ROLES | PARTS and second in THEIRS:
            return THEIRS[second]
        if (kind := WORDS.get(first + second)) is not None:
            return kind
    if words == ["name"] or (len(words) == 1 and words[0] in ROLES):
        return "name"
    return next((WORDS[word] for word in words if word in WORDS), None)
