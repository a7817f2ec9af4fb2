"""orbctl: the command line for operators.

    main.py                entry point of orbctl and of the kubectl plugin
    orbctl_application.py  list of commands, global options
    command_group.py       imports a command on first use
    command_line.py        parses a command line for ``remote.py``
    remote.py              runs orbctl in a controller's or an agent's Pod, through kubectl
    cleanup_pod.py         cleans a node with a temporary Pod
    global_options.py      global options of one run
    action_runner.py       runs a command's action; asks for confirmation
    session.py             connection to one cluster; writer for changes
    exit_codes.py          exit codes, error messages
    output.py              output formats
    kinds.py               kinds of objects
    commands/              one module per command

Commands contain no rules: they call the core and print the result.
"""
