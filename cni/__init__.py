"""The program that container runtimes execute (``plugin.c``), and its compilation (``build``)."""
