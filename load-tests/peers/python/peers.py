"""Workflows of ten durable steps that do nothing, on one of the peers, as many at a time as there are clients.

    peers.py PEER DIR CLIENTS SECONDS [URL]      PEER: langgraph, dbos-sqlite, dbos-postgres (needs URL)

The last line says how many workflows a second ended in the measured time, and the median and the 99th percentile of
how long one took, as JSON.
"""

import json
import logging
import sys
import threading
import time

STEPS = 10


def langgraph(place, _url):
    import sqlite3
    from typing import TypedDict

    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    class State(TypedDict):
        count: int

    graph = StateGraph(State)
    names = [f"s{step}" for step in range(STEPS)]
    for name in names:
        graph.add_node(name, lambda state: {"count": state["count"] + 1})
    for before, after in zip([START, *names], [*names, END]):
        graph.add_edge(before, after)
    # One connection for all threads, which the saver's own lock guards: how its documentation makes one.
    saver = SqliteSaver(sqlite3.connect(f"{place}/langgraph.sqlite", check_same_thread=False))
    compiled = graph.compile(checkpointer=saver)

    def once(name):
        config = {"configurable": {"thread_id": name}}
        # "sync": the next step begins when the checkpoint of this one is written.
        ended = compiled.invoke({"count": 0}, config, durability="sync")
        assert ended["count"] == STEPS, ended

    return once, lambda: None


def dbos(url):
    from dbos import DBOS

    logging.getLogger("dbos").setLevel(logging.ERROR)
    DBOS(config={"name": "peers", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR"})

    @DBOS.step()
    def step(at):
        return at + 1

    @DBOS.workflow()
    def ten():
        at = 0
        for _ in range(STEPS):
            at = step(at)
        return at

    DBOS.launch()

    def once(_name):
        ended = ten()
        assert ended == STEPS, ended

    return once, DBOS.destroy


PEERS = {
    "langgraph": langgraph,
    "dbos-sqlite": lambda place, _url: dbos(f"sqlite:///{place}/dbos.sqlite"),
    "dbos-postgres": lambda _place, url: dbos(url),
}


def drive(once, clients, seconds):
    """Lets clients work for the given time, after a tenth of it to warm up."""
    begin = time.monotonic() + seconds / 10
    end = begin + seconds
    took, failed = [], []

    def client(number):
        for n in range(1_000_000):
            since = time.monotonic()
            if since >= end:
                return
            try:
                once(f"{number}-{n}")
            except BaseException as error:
                failed.append(error)
                return
            if since >= begin:
                took.append(time.monotonic() - since)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    took.sort()
    at = lambda share: took[min(int(len(took) * share), len(took) - 1)] * 1e6
    return {"per_second": len(took) / seconds, "p50_us": at(0.5), "p99_us": at(0.99)}


def main():
    peer, place, clients, seconds, *url = sys.argv[1:]
    once, close = PEERS[peer](place, url[0] if url else None)
    # What a first run prepares is not what is measured.
    once("first")
    figures = drive(once, int(clients), float(seconds))
    close()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
