"""Checkpoints and proofs, character by character as C2SP writes them, and nothing else taken for one."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from kengele_schemas.checkpoint import (
    MAX_TEXT,
    Checkpoint,
    Proof,
    key_id,
    read_proof,
    sign_checkpoint,
    verify_checkpoint,
    verify_proof,
    write_proof,
)
from kengele_schemas.errors import Untrusted
from kengele_schemas.keys import verify_signature
from kengele_schemas.merkle import MAX_PROOF, Tree, leaf_hash

ORIGIN = "kengele/test"
KEY = SigningKey(bytes(range(32)))
PUBLIC = bytes(KEY.verify_key)
OTHER = SigningKey(bytes(range(1, 33)))
ROOT = bytes(range(100, 132))
TEXT = sign_checkpoint(ORIGIN, 7, ROOT, KEY)
BODY = f"{ORIGIN}\n7\n{base64.b64encode(ROOT).decode()}\n"

LEAVES = [leaf_hash(bytes([number])) for number in range(7)]
TREE = Tree()
for leaf in LEAVES:
    TREE.append(leaf)
SIGNED = sign_checkpoint(ORIGIN, 7, TREE.root(), KEY)
PROOF = write_proof(5, TREE.inclusion(5), SIGNED)

# Published verifier keys in the form name+id+base64(type ‖ key), and a note signed under the first of them.
VERIFIERS = [
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
]
NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
)


def signature_line(body: str, name: str = ORIGIN, key: SigningKey = KEY, named: SigningKey | None = None) -> str:
    """A line of signed-note, put together here by the letter of its specification."""
    number = hashlib.sha256(name.encode() + b"\x0a\x01" + bytes((named or key).verify_key)).digest()[:4]
    return f"— {name} {base64.b64encode(number + key.sign(body.encode()).signature).decode()}\n"


def note(body: str, *lines: str) -> str:
    return f"{body}\n{''.join(lines)}"


def taken(text: str, origin: str = ORIGIN, key: bytes = PUBLIC) -> Checkpoint | None:
    try:
        return verify_checkpoint(text, origin, key)
    except Untrusted:
        return None


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_key_ids_are_those_that_are_published(verifier: str) -> None:
    name, number, key = verifier.split("+", 2)
    assert key_id(name, base64.b64decode(key)[1:]).hex() == number


def test_a_published_note_is_signed_over_its_text_with_the_last_newline() -> None:
    name, _, key = VERIFIERS[0].split("+", 2)
    public, signature = base64.b64decode(key)[1:], base64.b64decode(NOTE[1])
    assert signature[:4] == key_id(name, public)
    assert verify_signature(public, NOTE[0].encode(), signature[4:])


def test_a_checkpoint_is_written_to_the_letter() -> None:
    assert note(BODY, signature_line(BODY)) == TEXT
    origin, size, root, blank, signature, end = TEXT.split("\n")
    assert (origin, size, root) == ("kengele/test", "7", "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=")
    assert (blank, end) == ("", "")
    assert signature.startswith("\u2014 kengele/test ")
    assert verify_checkpoint(TEXT, ORIGIN, PUBLIC) == Checkpoint(ORIGIN, 7, ROOT)


def test_the_checkpoint_of_an_empty_log_has_size_0() -> None:
    text = sign_checkpoint(ORIGIN, 0, Tree().root(), KEY)
    assert text.split("\n")[1:3] == ["0", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
    assert verify_checkpoint(text, ORIGIN, PUBLIC).size == 0


def test_the_largest_size_is_read_and_one_of_more_digits_is_not() -> None:
    for size, read in ((10**18 - 1, True), (10**18, False)):
        assert (taken(sign_checkpoint(ORIGIN, size, ROOT, KEY)) is not None) == read


EXTENDED = f"{BODY}an extension of tomorrow\n— not a signature\n"
GOOD = signature_line(BODY)


@pytest.mark.parametrize(
    "text",
    [
        note(EXTENDED, signature_line(EXTENDED)),
        note(BODY, signature_line(BODY, "witness.example/1", OTHER), GOOD),
        note(BODY, GOOD, signature_line(BODY, "witness.example/1", OTHER)),
        note(BODY, signature_line(BODY, ORIGIN, OTHER), GOOD),
        note(BODY, "— witness.example/1 %%%\n", GOOD),
        note(BODY, *[signature_line(BODY, f"witness.example/{number}", OTHER) for number in range(15)], GOOD),
    ],
    ids=["extension lines", "a foreign one first", "a foreign one after", "an older key's", "unknown type", "sixteen"],
)
def test_further_lines_and_foreign_signatures_are_passed_over(text: str) -> None:
    assert verify_checkpoint(text, ORIGIN, PUBLIC) == Checkpoint(ORIGIN, 7, ROOT)


REFUSED: list[tuple[str, str]] = [
    ("nothing", ""),
    ("no signature", note(BODY)),
    ("no blank line", BODY + GOOD),
    ("another origin", note(BODY.replace("test", "text"), signature_line(BODY.replace("test", "text")))),
    ("an empty first line", note(f"\n{BODY}", signature_line(f"\n{BODY}"))),
    ("a size with a zero before it", note(BODY.replace("\n7", "\n07"), signature_line(BODY.replace("\n7", "\n07")))),
    ("a size with a sign", note(BODY.replace("\n7", "\n+7"), signature_line(BODY.replace("\n7", "\n+7")))),
    ("a size below 0", note(BODY.replace("\n7", "\n-7"), signature_line(BODY.replace("\n7", "\n-7")))),
    ("a size in other digits", note(BODY.replace("\n7", "\n1٧"), signature_line(BODY.replace("\n7", "\n1٧")))),
    ("a size and a space", note(BODY.replace("\n7", "\n7 "), signature_line(BODY.replace("\n7", "\n7 ")))),
    ("no size", note(BODY.replace("\n7", "\n"), signature_line(BODY.replace("\n7", "\n")))),
    ("a root of 31 bytes", sign_checkpoint(ORIGIN, 7, ROOT[1:], KEY)),
    ("a root of 33 bytes", sign_checkpoint(ORIGIN, 7, ROOT + b"\0", KEY)),
    ("a root in base64url", note(BODY.replace("+", "-"), signature_line(BODY.replace("+", "-")))),
    ("a root without padding", note(BODY.replace("=", ""), signature_line(BODY.replace("=", "")))),
    ("a root with spare bits", note(BODY.replace("goM=", "goN="), signature_line(BODY.replace("goM=", "goN=")))),
    ("two lines only", note(f"{ORIGIN}\n7\n", signature_line(f"{ORIGIN}\n7\n"))),
    ("lines that end as elsewhere", TEXT.replace("\n", "\r\n")),
    ("another body", note(BODY.replace("\n7", "\n8"), GOOD)),
    ("a signature without the last newline", note(BODY, signature_line(BODY[:-1]))),
    ("a signature over the blank line too", note(BODY, signature_line(BODY + "\n"))),
    ("another key under our name", note(BODY, signature_line(BODY, ORIGIN, OTHER))),
    ("our key under another name", note(BODY, signature_line(BODY, "kengele/other"))),
    ("our signature under another key's id", note(BODY, signature_line(BODY, ORIGIN, KEY, named=OTHER))),
    ("our key id before another key's", note(BODY, signature_line(BODY, ORIGIN, OTHER, named=KEY))),
    ("a hyphen for the dash", note(BODY, GOOD.replace("—", "-"))),
    ("no dash", note(BODY, GOOD.removeprefix("— "))),
    ("no space after the dash", note(BODY, GOOD.replace("— ", "—"))),
    ("a signature cut short", note(BODY, f"{GOOD[:-6]}\n")),
    ("an extension that was not signed", note(EXTENDED, GOOD)),
    ("a signed text that goes on after a blank line", note(f"{BODY}\nmore\n", signature_line(f"{BODY}\nmore\n"))),
    ("more than is read", note(BODY, *[signature_line(BODY, "witness.example/1", OTHER)] * 700, GOOD)),
]


@pytest.mark.parametrize(("_sentence", "text"), REFUSED, ids=[sentence for sentence, _ in REFUSED])
def test_no_other_text_is_a_checkpoint(_sentence: str, text: str) -> None:
    with pytest.raises(Untrusted) as caught:
        verify_checkpoint(text, ORIGIN, PUBLIC)
    assert caught.value.code == "bad-proof"


def test_a_checkpoint_is_this_logs_under_this_logs_key_only() -> None:
    assert taken(TEXT) is not None
    for origin, key in (("kengele/other", PUBLIC), (ORIGIN, bytes(OTHER.verify_key)), (ORIGIN, b""), ("", PUBLIC)):
        assert taken(TEXT, origin, key) is None


def test_no_character_of_a_checkpoint_can_be_changed_to_mean_anything_else() -> None:
    for at in range(len(TEXT)):
        for other in "A8\n= —\u0661":
            found = taken(TEXT[:at] + other + TEXT[at + 1 :])
            assert found in (None, Checkpoint(ORIGIN, 7, ROOT)), at
            assert found is None or at >= len(TEXT) - 1 or TEXT[at] == other, at


def test_a_proof_is_written_to_the_letter() -> None:
    hashes = "".join(f"{base64.b64encode(step).decode()}\n" for step in TREE.inclusion(5))
    assert f"c2sp.org/tlog-proof@v1\nindex 5\n{hashes}\n{SIGNED}" == PROOF
    assert read_proof(PROOF) == Proof(5, tuple(TREE.inclusion(5)), SIGNED)
    assert verify_proof(PROOF, LEAVES[5], ORIGIN, PUBLIC) == (5, Checkpoint(ORIGIN, 7, TREE.root()))


def test_the_proof_of_a_logs_only_entry_has_no_hashes() -> None:
    text = write_proof(0, [], sign_checkpoint(ORIGIN, 1, LEAVES[0], KEY))
    assert text.startswith(f"c2sp.org/tlog-proof@v1\nindex 0\n\n{ORIGIN}\n1\n")
    assert verify_proof(text, LEAVES[0], ORIGIN, PUBLIC)[0] == 0


STEP = f"{base64.b64encode(ROOT).decode()}\n"
SHORT = f"{base64.b64encode(ROOT[1:]).decode()}\n"
UNREADABLE: list[tuple[str, str]] = [
    ("nothing", ""),
    ("another version", PROOF.replace("@v1", "@v2")),
    ("a line before it", "\n" + PROOF),
    ("no line but the first", PROOF.partition("\n")[0] + "\n\n" + SIGNED),
    ("no index", PROOF.replace("index 5\n", "")),
    ("another word", PROOF.replace("index", "Index")),
    ("an index with a zero before it", PROOF.replace("index 5", "index 05")),
    ("an index below 0", PROOF.replace("index 5", "index -5")),
    ("an index in other digits", PROOF.replace("index 5", "index 1٥")),
    ("an index of many digits", PROOF.replace("index 5", "index " + "5" * 5000)),
    ("a short hash", PROOF.replace("index 5\n", "index 5\n" + SHORT)),
    ("a hash that is none", PROOF.replace("index 5\n", "index 5\n%%%\n")),
    ("more hashes than there can be", PROOF.replace("index 5\n", "index 5\n" + STEP * (MAX_PROOF + 1))),
    ("one text only", PROOF.partition("\n\n")[0]),
    ("more than is read", PROOF + "\n" * MAX_TEXT),
]
UNTRUE: list[tuple[str, str]] = [
    ("another index", PROOF.replace("index 5", "index 4")),
    ("an index beyond the log", PROOF.replace("index 5", "index 7")),
    ("a hash too few", PROOF.replace(f"{base64.b64encode(TREE.inclusion(5)[0]).decode()}\n", "")),
    ("a hash too many", PROOF.replace("index 5\n", "index 5\n" + STEP)),
    ("no checkpoint", PROOF.partition("\n\n")[0] + "\n\n"),
    ("no blank line", PROOF.replace("\n\n", "\n", 1)),
    ("a checkpoint of another root", PROOF.partition("\n\n")[0] + "\n\n" + TEXT),
]


@pytest.mark.parametrize(("_sentence", "text"), UNREADABLE, ids=[sentence for sentence, _ in UNREADABLE])
def test_no_other_text_is_read_as_a_proof(_sentence: str, text: str) -> None:
    with pytest.raises(Untrusted) as caught:
        read_proof(text)
    assert caught.value.code == "bad-proof"


@pytest.mark.parametrize(("_sentence", "text"), UNTRUE, ids=[sentence for sentence, _ in UNTRUE])
def test_a_proof_that_is_well_written_and_untrue_does_not_hold(_sentence: str, text: str) -> None:
    assert text != PROOF
    with pytest.raises(Untrusted) as caught:
        verify_proof(text, LEAVES[5], ORIGIN, PUBLIC)
    assert caught.value.code == "bad-proof"


def test_a_proof_speaks_of_its_own_entry_only() -> None:
    for number, other in enumerate(LEAVES):
        if number != 5:
            with pytest.raises(Untrusted):
                verify_proof(PROOF, other, ORIGIN, PUBLIC)


def test_a_proof_may_have_as_many_hashes_as_there_can_be() -> None:
    assert len(read_proof(write_proof(0, [bytes(32)] * MAX_PROOF, "")).path) == MAX_PROOF


# Half surrogates too: a text that is no UTF-8 cannot have been signed.
ANY_TEXT = st.text(st.characters(), max_size=60)


@settings(max_examples=300, deadline=None)
@example("\ud800", "\udfff", 200, 0)
@given(ANY_TEXT, ANY_TEXT, st.integers(0, len(PROOF)), st.integers(0, 8))
def test_no_text_raises_anything_else(free: str, piece: str, at: int, cut: int) -> None:
    for text in (free, PROOF[:at] + piece + PROOF[at + cut :], note(f"{BODY}{free}\n", GOOD), note(BODY, free, GOOD)):
        for check in (
            lambda text: verify_checkpoint(text, ORIGIN, PUBLIC),
            read_proof,
            lambda text: verify_proof(text, LEAVES[5], ORIGIN, PUBLIC),
        ):
            try:
                found = check(text)
            except Untrusted:
                continue
            assert isinstance(found, Proof) or found in (
                Checkpoint(ORIGIN, 7, ROOT),
                (5, Checkpoint(ORIGIN, 7, TREE.root())),
            )
