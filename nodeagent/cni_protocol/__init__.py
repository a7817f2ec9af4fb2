"""What the CNI protocol says, as values: environment and configuration in, results out.

    failures.py    CNI error objects and their codes
    arguments.py   CNI_ARGS
    netconf.py     the network configuration on standard input
    call.py        one call: environment, arguments and configuration, checked
    results.py     the JSON of a result

Pure: nothing here waits, knows etcd, or decides about addresses.
"""
