"""orbctl: the command line for operators.

    main.py                entry point of orbctl and of the kubectl plugin
    orbctl_application.py  the list of commands, and the global options
    command_group.py       imports a command on first use; accepts global options after a command
    command_line.py        parses a command line, for ``remote.py``
    remote.py              runs orbctl in a controller's or an agent's Pod, through kubectl
    cleanup_pod.py         cleans a node with a temporary Pod
    global_options.py      the global options of one run
    action_runner.py       runs the action of a command, and asks for confirmation
    session.py             the connection to one cluster, and the writer for changes
    exit_codes.py          exit codes and error messages
    output.py              output formats: table, wide, json, yaml, name
    kinds.py               the kinds of objects and their names
    commands/              one module per command

A command calls the core and prints the result. Commands contain no rules.
"""
