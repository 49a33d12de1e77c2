#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the fixtures of this folder; see README.md. Usage: make.py (in the venv that it names)."""
import collections
import io
import os
import pickle
import pickletools
import struct
import sys
import zipfile

import joblib
import numpy as np
import onnx
from gguf import GGUFWriter
from onnx import TensorProto, helper
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler

HERE = os.path.dirname(os.path.abspath(__file__))


def path(name):
    return os.path.join(HERE, name)


def write(name, data):
    with open(path(name), "wb") as f:
        f.write(data)


rng = np.random.default_rng(1)
x = rng.normal(size=(40, 3))
y = np.where(x[:, 0] > 0, "yes", "no")
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
for protocol in (0, 2, 4, 5):
    write(f"sklearn_p{protocol}.pkl", pickle.dumps(model, protocol))
joblib.dump(model, path("sklearn.joblib"))
joblib.dump({"names": np.array(["a", None], dtype=object), "le": LabelEncoder().fit(y)},
            path("objects.joblib"))
joblib.dump(np.arange(6.0).reshape(2, 3), path("array.joblib"))
joblib.dump(model, path("compressed.joblib"), compress=3)
write("numpy_p5.pkl", pickle.dumps(np.arange(4, dtype="<f4"), 5))
write("plain_p4.pkl", pickle.dumps({"a": [1, 2.5, ("x", None, True)], "b": b"\0\1"}, 4))
write("ordered_p2.pkl", pickle.dumps(collections.OrderedDict(a=1), 2))

np.save(path("floats.npy"), np.arange(6, dtype="<f4").reshape(2, 3))
np.save(path("structured.npy"), np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8", (2,))]))
np.save(path("objects.npy"), np.array([1, "two"], dtype=object), allow_pickle=True)
np.savez(path("two.npz"), a=np.ones(3), b=np.zeros((2, 2), dtype="<i8"))
np.savez_compressed(path("packed.npz"), a=np.ones(300))

save_file({"w": np.ones((2, 3), dtype=np.float32), "b": np.zeros(3, dtype=np.float16),
           "s": np.array(1, dtype=np.int64)}, path("small.safetensors"), {"format": "np"})

g = GGUFWriter(path("small.gguf"), "llama")
g.add_name("tiny")
g.add_license("apache-2.0")
g.add_context_length(128)
g.add_chat_template("{{ messages }}")
g.add_token_list(["a", "b", "c"])
g.add_tensor("w", np.ones((4, 32), dtype=np.float32))
g.add_tensor("b", np.ones(5, dtype=np.float16))
g.write_header_to_file()
g.write_kv_data_to_file()
g.write_tensors_to_file()
g.close()

w = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], np.ones(6, dtype=np.float32).tobytes(), raw=True)
node = helper.make_node("MatMul", ["x", "w"], ["y"])
graph = helper.make_graph(
    [node], "tiny", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])], [w])
m = helper.make_model(graph, producer_name="mlctl-test", opset_imports=[helper.make_opsetid("", 17)])
m.ir_version = 8
onnx.save(m, path("small.onnx"))
m.opset_import.append(helper.make_opsetid("com.example", 1))
t = m.graph.initializer[0]
t.ClearField("raw_data")
t.data_location = TensorProto.EXTERNAL
for k, v in (("location", "weights/w.bin"), ("offset", "16"), ("length", "24")):
    e = t.external_data.add()
    e.key, e.value = k, v
write("external.onnx", m.SerializeToString())


class Torch(pickle.Pickler):
    """Pickles as torch.save does, without torch: classes are stood in for by their names."""

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None


class Storage:
    def __init__(self, cls, key, numel, view=()):
        self.pid = ("storage", cls, key, "cpu", numel) + view


def fake_module(name, *members):
    module = type(sys)(name)
    for n in members:
        obj = type(n, (), {"__module__": name}) if n[0].isupper() else None
        if obj is None:
            def obj(*args):
                return args
            obj.__name__ = obj.__qualname__ = n
            obj.__module__ = name
        setattr(module, n, obj)
    sys.modules[name] = module
    return module


torch = fake_module("torch", "FloatStorage")
utils = fake_module("torch._utils", "_rebuild_tensor_v2")
torch._utils = utils


class Tensor:
    def __init__(self, storage, size):
        self.args = (storage, 0, size, (1,), False, collections.OrderedDict())

    def __reduce__(self):
        return (utils._rebuild_tensor_v2, self.args)


def torch_pickle(view=()):
    b = io.BytesIO()
    Torch(b, 2).dump(collections.OrderedDict(
        w=Tensor(Storage(torch.FloatStorage, "0", 4, view), (4,))))
    return b.getvalue()


b = io.BytesIO()
with zipfile.ZipFile(b, "w") as z:
    for name, data in (("archive/data.pkl", torch_pickle()), ("archive/byteorder", b"little"),
                       ("archive/data/0", struct.pack("<4f", 1, 2, 3, 4)),
                       ("archive/version", b"3\n")):
        z.writestr(zipfile.ZipInfo(name), data)
write("zip.pt", b.getvalue())
write("old.pt", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
      + pickle.dumps({"little_endian": True}, 2) + torch_pickle((None,)) + pickle.dumps(["0"], 2)
      + struct.pack("<q4f", 4, 1, 2, 3, 4))

b = io.BytesIO()
with zipfile.ZipFile(b, "w") as z:
    z.writestr(zipfile.ZipInfo("metadata.json"), "{}")
    z.writestr(zipfile.ZipInfo("config.json"), '{"class_name": "Lambda"}')
    z.writestr(zipfile.ZipInfo("model.weights.h5"), b"\x89HDF\r\n\x1a\n")
write("lambda.keras", b.getvalue())


def imports(data):
    """The imports of one pickle by pickletools, with a small stack for STACK_GLOBAL."""
    strings, memo, out = [], {}, []
    for op, arg, _ in pickletools.genops(data):
        if op.name in ("GLOBAL", "INST"):
            out.append(tuple(arg.split(" ", 1)))
            strings.append(None)
        elif op.name == "STACK_GLOBAL":
            out.append((strings[-2], strings[-1]))
            strings.append(None)
        elif op.name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else None
        elif op.name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(arg)] = strings[-1] if strings else None
        elif op.name in ("BINGET", "LONG_BINGET", "GET"):
            strings.append(memo[int(arg)])
        elif op.name not in ("FRAME", "PROTO", "STOP", "MARK"):
            strings.append(arg if isinstance(arg, str) else None)
    return out


with open(path("expected.txt"), "w", encoding="utf-8") as f:
    for name in sorted(os.listdir(HERE)):
        if name.endswith(".pkl"):
            with open(path(name), "rb") as p:
                for module, member in dict.fromkeys(imports(p.read())):
                    f.write(f"{name} {module} {member}\n")
