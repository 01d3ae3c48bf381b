# The native SQLite, for engines/support/native-sqlite.mjs: reads requests as lines of JSON, runs
# them on the database whose path is the argument, and answers each by a line of JSON.

import json
import sqlite3
import sys


def encode(value):
    return {"blob": value.hex()} if isinstance(value, bytes) else value


def run(database, request):
    if "version" in request:
        options = [row[0] for row in database.execute("PRAGMA compile_options")]
        return {"version": sqlite3.sqlite_version, "options": options}
    if "many" in request:
        database.executemany(request["sql"], request["many"])
        return {"rows": []}
    if "script" in request:
        database.executescript(request["script"])
        return {"rows": []}
    rows = database.execute(request["sql"], request.get("bind", {})).fetchall()
    return {"rows": [[encode(value) for value in row] for row in rows]}


# No isolation level: the module begins no transactions by itself.
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    try:
        answer = run(connection, json.loads(line))
    except sqlite3.Error as error:
        answer = {"error": str(error)}
    print(json.dumps(answer, ensure_ascii=True), flush=True)
connection.close()
