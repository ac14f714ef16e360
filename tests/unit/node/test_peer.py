"""Whose the other end of a connection is: by the kernel's table, and by real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kengele_node.pages import peer

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
PEER, OWN = ("127.0.0.1", 40000), ("127.0.0.1", 8080)
THEIRS, OURS = peer._written(*PEER), peer._written(*OWN)
OTHER = os.geteuid() + 1


def row(user: int, *, state: str = "01", inode: int = 77, local: str = "", remote: str = "") -> str:
    ends = f"{local or THEIRS} {remote or OURS}"
    return f"   0: {ends} {state} 00000000:00000000 00:00000000 00000000 {user:5} 0 {inode} 1 0 20 4 30 10 -1\n"


def table(tmp_path: Path, *rows: str) -> tuple[Path, ...]:
    path = tmp_path / "tcp"
    path.write_text(HEAD + "".join(rows))
    return (path, tmp_path / "there-is-no-tcp6")


@pytest.mark.parametrize(
    ("sentence", "rows", "let_in"),
    [
        ("the same user", [row(os.geteuid())], True),
        ("root, who reads all memory anyhow", [row(0)], True),
        ("another user", [row(OTHER)], False),
        ("nobody at all", [], False),
        ("another user beside an own connection", [row(os.geteuid(), local="0100007F:9999"), row(OTHER)], False),
        ("the own end alone, which is listed too", [row(os.geteuid(), local=OURS, remote=THEIRS)], False),
        ("a socket that its process closed, which the kernel lists as root's", [row(0, inode=0)], False),
        ("one that waits to be forgotten, likewise", [row(0, state="06", inode=0)], False),
        ("one that was closed half-way", [row(0, state="04", inode=5), row(0, state="05", inode=5)], False),
        ("two rows of which one is another's", [row(os.geteuid()), row(OTHER)], False),
        ("a row that is cut off", [row(os.geteuid())[:60] + "\n"], False),
    ],
)  # fmt: skip
def test_who_is_let_in_by_the_kernels_table(tmp_path: Path, sentence: str, rows: list[str], let_in: bool) -> None:
    assert peer.permitted(PEER, OWN, table(tmp_path, *rows)) is let_in, sentence


def test_where_the_system_does_not_tell_the_other_checks_stand_alone(tmp_path: Path) -> None:
    assert peer.permitted(PEER, OWN, (tmp_path / "none", tmp_path / "neither"))


@pytest.mark.parametrize("end", [None, (), ("::1", 1, 0, 0), ("", 0), ("127.0.0.1", "x"), "127.0.0.1"])
def test_an_end_that_is_no_address_is_not_let_in(tmp_path: Path, end: object) -> None:
    assert not peer.permitted(end, OWN, table(tmp_path, row(os.geteuid())))
    assert not peer.permitted(PEER, end, table(tmp_path, row(os.geteuid())))
    assert not peer.let_in(None)


@pytest.mark.skipif(not peer.TABLES[0].exists(), reason="THE SYSTEM DOES NOT TELL: real sockets were not tested")
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")])
def test_a_real_connection_of_this_user_is_let_in_while_it_is_held(family: socket.AddressFamily, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(family) as client:
        client.connect((address, server.getsockname()[1]))
        accepted, _ = server.accept()
        with accepted:
            ends = accepted.getpeername(), accepted.getsockname()
            assert peer.permitted(*ends)
            client.close()
            assert not peer.permitted(*ends)
