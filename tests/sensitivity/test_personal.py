"""Personal data: addresses, numbers, and the words that must stand beside a bare number."""

from __future__ import annotations

import pytest

from knowledge_system.sensitivity.detector import find


def kinds(text: str) -> list[str]:
    return [finding.kind for finding in find(text)]


@pytest.mark.parametrize(
    "address", ["ana.silva@corp.io", "o'neil+x@mail.co.uk", "USER@xn--80ak6aa92e.com", "a@b-c.org"]
)
def test_mail_addresses_of_people(address: str) -> None:
    for text in (address, f"Author: A <{address}>", f"mailto:{address}", f"email = {address}\n", f"x\\n{address}"):
        (finding,) = find(text)
        assert (finding.kind, text[finding.start : finding.end]) == ("email", address)


@pytest.mark.parametrize(
    "text",
    [
        "Co-Authored-By: Agent <noreply@anthropic.com>",
        "123+name@users.noreply.github.com",
        "git@github.com:acme/widgets.git",
        "user@example.com",
        "you@yourcompany.com",
        "actions/checkout@v4",
        "icon@2x.png",
        "pkg@1.2.3",
        "@app.route('/x')",
        "test@test.com",
        "ae6700010bb7426c@v1",
    ],
)
def test_what_only_looks_like_a_mail_address(text: str) -> None:
    assert kinds(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "call +49 30 1234567",
        "+1 (415) 555-0132",
        "(415) 555-0132",
        "415-555-0132",
        "Phone: 0378 3549890",
        "tel. 09-7625400",
        "please call me at 0494 92 82 32 tomorrow",
        "my mobile number is 13812345678",
    ],
)
def test_telephone_numbers(text: str) -> None:
    assert kinds(text) == ["phone"]


@pytest.mark.parametrize(
    "text",
    [
        "took 1234567 ms",
        "at 2025-09-16 17:20:11",
        "id 1767028537",
        "line 4155550132",
        "v2.10.1234567",
        "0.123456789",
        "issue #4155550132",
        "Text Exchange - 2025-09-14 17",
    ],
)
def test_other_numbers_are_no_telephone_numbers(text: str) -> None:
    assert kinds(text) == []


@pytest.mark.parametrize(
    "number", ["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"]
)
def test_card_numbers_with_a_valid_check_digit(number: str) -> None:
    assert kinds(f"pay with {number} please") == ["card-number"]
    assert kinds(f"pay with {number[:-1]}{(int(number[-1]) + 1) % 10} please") == []


def test_card_numbers_of_other_forms_need_a_word() -> None:
    assert kinds("card number 630427373398 is lost") == ["card-number"]
    assert kinds("offset 630427373398 is free") == []


def test_bank_accounts_with_a_valid_checksum() -> None:
    assert kinds("IBAN GB82 WEST 1234 5698 7654 32") == ["iban"]
    assert kinds("to DE89370400440532013000.") == ["iban"]
    assert kinds("to DE89370400440532013001.") == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ssn 078051123", "social-security"),
        ("078-05-1123", "social-security"),
        ("911-70-1234", "tax-number"),
        ("my passport number is CD7654321", "passport"),
        ("National Insurance Number YZ 61 48 68 B", "national-id"),
        ("His Korean RRN is 960121-1234567", "national-id"),
        ("NRIC S2740116C was processed", "national-id"),
        ("My personal identity code is: 189110089811.", "national-id"),
        ("Amtsgericht M\u00fcnchen HRB 12345", "company-number"),
        ("Kennzeichen B AB 1234 gesehen", "number-plate"),
        ("account number 945456787654", "bank-account"),
    ],
)
def test_identity_numbers_beside_the_words_that_announce_them(text: str, kind: str) -> None:
    assert kinds(text) == [kind]


def test_a_bare_number_in_a_sentence_is_no_identity_number() -> None:
    assert kinds("wrote 078051123 rows and 945456787654 bytes in total") == []


@pytest.mark.parametrize(
    "text",
    [
        "Megan lives on Via Tasso 129 street.",
        "Address:     594 Heged\u00fbs Gyula utca 76. Apt. 289 Hungary",
        "shipped to 90 Whitchurch Road today",
        "wohnt in der Lindenstra\u00dfe 12 in Berlin",
    ],
)
def test_postal_addresses(text: str) -> None:
    assert kinds(text) == ["address"]


@pytest.mark.parametrize(
    "text",
    [
        "address: 0x7ffe12",
        "address: localhost:8080",
        "lives in src/app.py line 12",
        "address: string",
        "send it to main",
    ],
)
def test_other_addresses_are_no_postal_addresses(text: str) -> None:
    assert kinds(text) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("my ip is 2400:c401::5054:ff:fe1b:b031", "ip-address"),
        ("from 81.2.69.142 port 22", "ip-address"),
        ("Gateway: fe80::1 on interface", "local-address"),
        ("10.0.0.0/8", "local-address"),
        ("ssh 192.168.1.17", "local-address"),
        ("684D:1111:222:3333:4444:5555:6:77", "ip-address"),
        ("::ffff:192.168.1.1", "local-address"),
    ],
)
def test_network_addresses(text: str, kind: str) -> None:
    assert set(kinds(text)) == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8080/",
        "--host 0.0.0.0",
        'server.host = "127.0.0.1"',
        "Chrome/120.0.0.0 Safari",
        "version 1.20.30.40",
        "at 12:30:45",
        "std::vector<int> a::b",
        "test_app.py::TestX::test_1",
        "00:1a:2b:3c:4d:5e",
        "resolver 8.8.8.8",
        "256.300.1.1",
    ],
)
def test_endpoints_of_the_machine_itself_versions_and_names_stay(text: str) -> None:
    assert kinds(text) == []
