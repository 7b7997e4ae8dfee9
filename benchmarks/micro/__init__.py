"""How long the parts take, one by one and without a network:

    .venv/bin/pip install '.[bench]' && .venv/bin/pytest benchmarks/micro

It is pytest-benchmark, with its options: `-k seal` for some of it, `--benchmark-autosave` and
`--benchmark-compare` to hold one version against another. Below its tables stands what a packet costs.
"""
