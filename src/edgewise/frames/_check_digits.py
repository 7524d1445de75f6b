"""Check digits of numbers that name a person or an account: can this number be one? Each takes bare characters."""

from __future__ import annotations

from collections.abc import Sequence

VERHOEFF_D = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
VERHOEFF_P = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
CF_ODD = dict(
    zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21,
         2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23), strict=True)
)  # fmt: skip
VIN_VALUES = dict(
    zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ",
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9),
        strict=True)
)  # fmt: skip
VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def luhn(digits: str) -> bool:
    """Cards, IMEIs, Swedish personal numbers: ISO/IEC 7812-1 annex B.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1


def iban(text: str) -> bool:
    """ISO 13616: the number after its first four characters moved to the end is 1 modulo 97.

    >>> iban("DE89370400440532013000"), iban("DE88370400440532013000")
    (True, False)
    """
    turned = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def german_tax_number(digits: str) -> bool:
    """Steuerliche Identifikationsnummer: ISO 7064 mod 11,10; the first digit is not 0, and one digit comes again."""
    if digits[0] == "0" or not 7 <= len(set(digits[:10])) <= 9:
        return False
    product = 10
    for digit in digits[:10]:
        product = (int(digit) + product) % 10 or 10
        product = product * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def nhs_number(digits: str) -> bool:
    """British NHS number: weights 10 to 2, modulo 11."""
    check = 11 - _weighted(digits[:9], range(10, 1, -1)) % 11
    return check % 11 == int(digits[9]) and check != 10 and len(set(digits)) > 1


def french_number(text: str) -> bool:
    """NIR (sécurité sociale): 97 minus the first thirteen digits modulo 97; Corsica's 2A and 2B count as 19 and 18."""
    body = text[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(text[13:15])


def spanish_number(text: str) -> bool:
    """DNI, and NIE with its X, Y or Z for 0, 1, 2: the letter at the number modulo 23."""
    body = text[0].translate(str.maketrans("XYZ", "012")) + text[1:8]
    return DNI_LETTERS[int(body) % 23] == text[8]


def italian_code(text: str) -> bool:
    """Codice fiscale: sums of odd and even places, modulo 26, give the last letter."""
    odd = sum(CF_ODD[character] for character in text[0:15:2])
    even = sum(int(character) if character.isdigit() else ord(character) - 65 for character in text[1:15:2])
    return chr(65 + (odd + even) % 26) == text[15]


def dutch_number(digits: str) -> bool:
    """BSN: weights 9 to 2 and -1, modulo 11."""
    return _weighted(digits, (*range(9, 1, -1), -1)) % 11 == 0 and len(set(digits)) > 1


def polish_number(digits: str) -> bool:
    """PESEL: weights 1, 3, 7, 9 and a month that exists."""
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
    month_exists = 1 <= int(digits[2:4]) % 20 <= 12 and 1 <= int(digits[4:6]) <= 31
    return month_exists and -_weighted(digits[:10], weights) % 10 == int(digits[10])


def swedish_number(digits: str) -> bool:
    """Personnummer: Luhn over the last ten digits, with a month and a day that exist."""
    digits = digits[-10:]
    return 1 <= int(digits[2:4]) <= 12 and 1 <= int(digits[4:6]) % 60 <= 31 and luhn(digits)


def brazilian_number(digits: str) -> bool:
    """CPF: two check digits, weights from 10 and from 11 down, modulo 11."""

    def check(length: int) -> int:
        return _weighted(digits[:length], range(length + 1, 1, -1)) * 10 % 11 % 10

    return len(set(digits)) > 1 and check(9) == int(digits[9]) and check(10) == int(digits[10])


def indian_number(digits: str) -> bool:
    """Aadhaar: Verhoeff, and neither 0 nor 1 in front."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = int(VERHOEFF_D[state][int(VERHOEFF_P[place % 8][int(digit)])])
    return state == 0 and digits[0] not in "01"


def american_number(digits: str) -> bool:
    """SSN has no check digit; what the authority never gives out is none."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def vehicle_number(text: str) -> bool:
    """VIN as North America checks it (49 CFR 565): weights, modulo 11, at the ninth place."""
    check = sum(VIN_VALUES[character] * weight for character, weight in zip(text, VIN_WEIGHTS, strict=True)) % 11
    is_mixed = not text.isalpha() and not text.isdigit()
    return is_mixed and text[8] == ("X" if check == 10 else str(check))


def _weighted(digits: str, weights: Sequence[int] | range) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))
