"""orbctl: what operators type.

    main.py       the application, its global options and commands
    arguments.py  global options may stand anywhere on the line
    session.py    one connection to one cluster; a writer when something is to be written
    exits.py      exit codes, and errors as people read them
    output.py     table, wide, json, yaml, name
    kinds.py      the kinds of objects and what people call them
    commands/     one module per command; what it needs it imports when it runs

Every command calls the core; none decides anything itself.
"""
