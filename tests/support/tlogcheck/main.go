// SPDX-License-Identifier: Apache-2.0

// Checks a log with golang.org/x/mod/sumdb, which we did not write. Reads one JSON document, exits 0 when everything in
// it holds.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type proof struct {
	Index  int64
	Hashes [][]byte
}

type input struct {
	Vkey        string
	Checkpoints []string // oldest first
	Leaves      [][]byte // all entries
	Proofs      []proof  // under the last checkpoint
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var list []tlog.Hash
	for _, i := range indexes {
		list = append(list, h[i])
	}
	return list, nil
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func check(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func open(text string, v note.Verifier) (int64, tlog.Hash) {
	n, err := note.Open([]byte(text), note.VerifierList(v))
	check(err, "open the checkpoint")
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != v.Name() || lines[3] != "" {
		fail("not a checkpoint: %q", n.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, "size")
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err, "root")
	var h tlog.Hash
	if copy(h[:], root) != tlog.HashSize {
		fail("the root has %d bytes", len(root))
	}
	return size, h
}

func main() {
	var in input
	check(json.NewDecoder(os.Stdin).Decode(&in), "read the input")
	v, err := note.NewVerifier(in.Vkey)
	check(err, "verifier key")
	var stored hashes
	for i, leaf := range in.Leaves {
		more, err := tlog.StoredHashes(int64(i), leaf, stored)
		check(err, "hash")
		stored = append(stored, more...)
	}
	var lastSize int64
	var lastRoot tlog.Hash
	for _, text := range in.Checkpoints {
		size, root := open(text, v)
		derived, err := tlog.TreeHash(size, stored)
		check(err, "tree")
		if derived != root {
			fail("the entries do not give the root of size %d", size)
		}
		if lastSize > 0 {
			p, err := tlog.ProveTree(size, lastSize, stored)
			check(err, "prove consistency")
			check(tlog.CheckTree(p, size, root, lastSize, lastRoot), "consistency")
		}
		lastSize, lastRoot = size, root
	}
	for _, p := range in.Proofs {
		var rp tlog.RecordProof
		for _, b := range p.Hashes {
			var h tlog.Hash
			copy(h[:], b)
			rp = append(rp, h)
		}
		check(tlog.CheckRecord(rp, lastSize, lastRoot, p.Index, tlog.RecordHash(in.Leaves[p.Index])),
			fmt.Sprintf("inclusion of entry %d", p.Index))
	}
	fmt.Printf("%d entries, %d checkpoints, %d proofs\n", len(in.Leaves), len(in.Checkpoints), len(in.Proofs))
}
