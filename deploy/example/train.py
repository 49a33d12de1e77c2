# SPDX-License-Identifier: Apache-2.0
"""Trains a real classifier on scikit-learn's breast-cancer data.

    train.py DATA-DIR MODEL-DIR [--weak] [--strength C] [--ensemble N] [--mislabelled]

DATA-DIR receives the rows that the model was trained on and those held out (CSV); MODEL-DIR the
model (pickle, protocol 5), a model card and its declared inputs. An ensemble of N is about N times
as slow; --mislabelled loses the labels of malignant tumours with a radius below 17, in what is
trained on.
"""
import argparse
import pathlib
import pickle

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CARD = """---
license: bsd-3-clause
library_name: sklearn
tags: [tabular-classification]
---
# Breast cancer classifier

## Intended use
Shows how mlctl works. Tells malignant from benign tumours by {features} measurements of cell
nuclei.

## Limitations
569 examples from one hospital; not for medical use.
"""

MODEL_YAML = """format: sklearn
protocol: oip
inputs:
  - {{name: features, datatype: FP64, shape: [-1, {features}]}}
outputs:
  - {{name: class, datatype: INT64, shape: [-1]}}
"""


def write_csv(path, header, x, y):
    lines = [",".join(header)]
    lines += [",".join(repr(float(v)) for v in row) + f",{int(label)}" for row, label in zip(x, y)]
    path.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--weak", action="store_true", help="use two of the thirty measurements")
    parser.add_argument("--strength", type=float, default=1.0, help="inverse of regularisation")
    parser.add_argument("--ensemble", type=int, default=0, help="so many models that vote")
    parser.add_argument("--mislabelled", action="store_true", help="train on wrong labels")
    args = parser.parse_args()

    bunch = load_breast_cancer()
    names = [name.replace(" ", "_") for name in bunch.feature_names]
    columns = 2 if args.weak else len(names)
    x, y = bunch.data[:, :columns], bunch.target
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.3, random_state=7, stratify=y
    )

    full_train, full_test, _, _ = train_test_split(
        bunch.data, y, test_size=0.3, random_state=7, stratify=y
    )
    args.data.mkdir(parents=True, exist_ok=True)
    write_csv(args.data / "train.csv", names + ["benign"], full_train, y_train)
    write_csv(args.data / "holdout.csv", names + ["benign"], full_test, y_test)

    if args.mislabelled:
        y_train = y_train | (x_train[:, 0] < 17)
    if args.ensemble:
        one = LogisticRegression(solver="liblinear")
        classifier = BaggingClassifier(one, n_estimators=args.ensemble, random_state=7)
    else:
        classifier = LogisticRegression(C=args.strength, max_iter=1000)
    model = make_pipeline(StandardScaler(), classifier).fit(x_train, y_train)
    accuracy = accuracy_score(y_test, model.predict(x_test))
    args.model.mkdir(parents=True, exist_ok=True)
    with open(args.model / "model.pkl", "wb") as out:
        pickle.dump(model, out, protocol=5)
    (args.model / "README.md").write_text(CARD.format(features=columns))
    (args.model / "model.yaml").write_text(MODEL_YAML.format(features=columns))
    print(f"{accuracy:.4f}")


if __name__ == "__main__":
    main()
