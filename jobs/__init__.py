"""The programs: the command line, the run file, wiring, printing, signals."""
