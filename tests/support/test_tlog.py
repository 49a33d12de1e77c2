# SPDX-License-Identifier: Apache-2.0
"""The second verifier against published vectors."""
import pytest

from support import tlog

LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657",
          "606162636465666768696a6b6c6d6e6f"]
# transparency-dev/merkle testonly/constants.go
ROOTS = ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
         "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
         "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
         "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
         "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
         "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
         "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
         "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"]
# C2SP signed-note
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = ("This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi"
        "2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n").encode()


def test_roots():
    hashes = [tlog.leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES]
    assert [tlog.root(hashes[:n]).hex() for n in range(1, 9)] == ROOTS


def test_tiles_of_the_specification():
    names = [tlog.tile_path(*tile) for tile in tlog.tiles(70000)]
    assert len(names) == 274 + 2 + 1
    assert {"tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"} \
        <= set(names)
    assert tlog.tile_path(0, 1234067, 256) == "tile/0/x001/x234/067"


def test_note():
    key = tlog.Key(VKEY)
    assert tlog.open_note(NOTE, key) == "This is an example message.\n"
    with pytest.raises(tlog.Wrong, match="false"):
        tlog.open_note(NOTE.replace(b"example message", b"example massage"), key)
