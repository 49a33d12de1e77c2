# SPDX-License-Identifier: Apache-2.0
"""The reader of metrics takes what Prometheus takes, and nothing else."""
import pytest

from support.prometheus import parse

HEAD = "# HELP a_total What it is.\n# TYPE a_total counter\n"
HISTOGRAM = "# HELP h Time.\n# TYPE h histogram\n"


def test_good():
    found = parse(HEAD + 'a_total{x="1",y="q\\"\\\\\\n"} 4\na_total 1e3\n' + HISTOGRAM +
                  'h_bucket{le="0.5"} 1\nh_bucket{le="+Inf"} 3\nh_sum 2.5\nh_count 3\n')
    assert found["a_total"].value(x="1", y='q"\\\n') == 4
    assert found["a_total"].value() == 1000
    assert found["h"].kind == "histogram" and found["h"].value("_count") == 3


@pytest.mark.parametrize("text", [
    "a_total 1\n", HEAD, HEAD + "a_total 1", HEAD + "b_total 1\n", HEAD + "a_total one\n",
    HEAD + "a_total 1\na_total 1\n", HEAD + "a_total -1\n", HEAD + "a_total  1\n",
    HEAD + 'a_total{x="1} 1\n', HEAD + 'a_total{x="1",} 1\n', HEAD + 'a_total{x="1",x="2"} 1\n',
    HEAD + 'a_total{1x="1"} 1\n', HEAD + "a_total 1\n\n",
    HEAD + "a_total 1\n" + HEAD + "a_total 2\n",
    "# TYPE a_total counter\na_total 1\n", "# HELP a A.\n# TYPE a counter\na 1\n",
    "# HELP a A.\n# TYPE a number\na 1\n", "# HELP a A.\n# TYPE b gauge\na 1\n",
    HISTOGRAM + 'h_bucket{le="0.5"} 1\nh_sum 1\nh_count 1\n',
    HISTOGRAM + 'h_bucket{le="0.5"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
    HISTOGRAM + 'h_bucket{le="+Inf"} 1\nh_sum 1\nh_count 2\n',
    HISTOGRAM + 'h_bucket{le="1"} 1\nh_bucket{le="0.5"} 1\nh_bucket{le="+Inf"} 1\nh_sum 1\n'
                "h_count 1\n",
])
def test_bad(text):
    with pytest.raises(AssertionError):
        parse(text)
