# SPDX-License-Identifier: Apache-2.0
"""Evaluates a model on all 569 examples by out-of-fold prediction.

    evaluate.py MODEL-DIR DATASET-REF OUT-DIR

The model's pipeline is fitted anew on nine tenths of scikit-learn's breast-cancer data and predicts
the last tenth, ten times, so that no example is predicted by a model that saw it. Writes
OUT-DIR/evaluation.json and OUT-DIR/examples.csv (id, label, prediction, score).
"""
import datetime
import json
import pathlib
import pickle
import sys

from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict


def main():
    model_dir, dataset, out = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    with open(model_dir / "model.pkl", "rb") as f:
        model = pickle.load(f)
    bunch = load_breast_cancer()
    x, y = bunch.data[:, : model.n_features_in_], bunch.target
    folds = StratifiedKFold(n_splits=10, shuffle=True, random_state=7)
    scores = cross_val_predict(clone(model), x, y, cv=folds, method="predict_proba")[:, 1]
    predicted = (scores >= 0.5).astype(int)

    out.mkdir(parents=True, exist_ok=True)
    rows = ["id,label,prediction,score"]
    rows += [f"{i},{y[i]},{predicted[i]},{scores[i]:.6f}" for i in range(len(y))]
    (out / "examples.csv").write_text("\n".join(rows) + "\n")
    accuracy = accuracy_score(y, predicted)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "schema": "evaluation/v1",
        "dataset": dataset,
        "evaluated_at": now,
        "metrics": [{"name": "accuracy", "value": round(accuracy, 9), "n": len(y)}],
    }
    (out / "evaluation.json").write_text(json.dumps(document, indent=2) + "\n")
    print(f"{accuracy:.4f}")


if __name__ == "__main__":
    main()
