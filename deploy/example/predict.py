# SPDX-License-Identifier: Apache-2.0
"""Predicts with a pulled model: predict.py MODEL-DIR HOLDOUT.csv"""
import csv
import pathlib
import pickle
import sys


def main():
    model_dir, holdout = map(pathlib.Path, sys.argv[1:3])
    with open(model_dir / "model.pkl", "rb") as f:
        model = pickle.load(f)
    with open(holdout, newline="") as f:
        rows = list(csv.reader(f))[1:]
    x = [[float(v) for v in row[: model.n_features_in_]] for row in rows]
    right = sum(int(p) == int(row[-1]) for p, row in zip(model.predict(x), rows))
    print(f"{right} of {len(rows)} tumours classified correctly")
    sys.exit(0 if right > len(rows) * 0.8 else 1)


if __name__ == "__main__":
    main()
