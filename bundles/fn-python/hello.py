"""A hot function of Fn's http format: reads a request, prints Hello and the headers, and reads the next one."""

import os
import sys

requests, responses = sys.stdin.buffer, sys.stdout.buffer
greeting = os.environ.get("GREETING", "Hello")

while request_line := requests.readline():
    headers = {}
    while (line := requests.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    # Read exactly as much as Content-Length says: the next request follows on the same pipe.
    name = requests.read(int(headers.get(b"content-length", b"0"))) or b"world"

    body = greeting.encode() + b", " + name + b"!\n"
    for key in sorted(headers):
        body += key + b": " + headers[key] + b"\n"
    print(request_line.decode().strip(), file=sys.stderr)  # stderr is the log

    responses.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n")
    responses.write(b"Content-Length: %d\r\n\r\n" % len(body))
    responses.write(body)
    responses.flush()
