"""The CNI protocol as values: variables and configuration in, results and errors out.

    cni_call.py  a call: variables, CNI_ARGS and configuration, checked
    netconf.py   the network configuration on standard input
    failures.py  CNI error objects and their codes
    results.py   the JSON of a result

Pure: nothing here waits or reads etcd.
"""
