/// Put before a program by LD_PRELOAD, counts how often it asks for heap memory: in the first 8 bytes of the file that COFFER_ALLOCATIONS names, which the program that
/// counts maps too. Nothing is to be called.
