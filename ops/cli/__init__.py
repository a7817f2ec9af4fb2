"""orbctl: the command line for operators.

    main.py            entry point of orbctl and of the kubectl plugin
    application.py     the list of commands, and the global options
    command_group.py   imports a command when it is used; accepts global options after it
    command_line.py    the options of a line, for a run elsewhere
    remote.py          runs orbctl in a controller's or an agent's Pod, through kubectl
    cleanup_pod.py     a Pod that cleans a node
    global_options.py  the global options of one run
    context.py         how a command does its work, reads its input and asks
    session.py         one connection to one cluster; a writer when something is to be written
    exits.py           exit codes, and error texts
    output.py          table, wide, json, yaml, name
    kinds.py           the kinds of objects and their names
    commands/          one module per command

Every command calls the core; none decides anything itself.
"""
