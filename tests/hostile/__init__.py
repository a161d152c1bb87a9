"""Clients and upstreams that break the rules, byte by byte, against a real process.

`cases` says what a case is made of, `families` are the cases themselves, `stage` plays one of them between a client
and an upstream that are both scripted, and `verdict` says what is wrong with what was seen. `strict` and `witnesses`
read messages independently of the proxy: one as RFC 9112 has it, the others as lenient programs do.
"""
