// Gives the precompiled header a target of its own (core/CMakeLists.txt).
