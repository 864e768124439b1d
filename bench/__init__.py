"""What is fast, measured against what people use instead: `make bench`.

program.py     bbdiag as its users have it, and what else must be installed
lab.py         two network namespaces and a cable (forwarder.c) whose length can be chosen
bitbucket.py   an instance at the other end, with nginx and recorded answers
peers.py       what people use today, called as they call it (by_hand.sh)
fleets.py      fleets, and what is kept of their reports
measuring.py   taking turns, time, CPU and memory (measure.c), medians
parts/         one module a comparison
results.py     tables and targets, kept between runs
page.py        docs/performance.md, from page.md, missed.toml and the results
"""
