#!/bin/sh
# A hot function of Fn's http format: reads a request, prints Hello and the headers, and reads the next one.
# The shell reads lines byte by byte, so it never takes more of the pipe than it should; awk makes the answer.
LC_ALL=C
export LC_ALL
cr=$(printf '\r')

while IFS= read -r request; do
  length=0
  headers=''
  while IFS= read -r line && line=${line%"$cr"} && [ -n "$line" ]; do
    case $line in
      Content-Length:*) length=${line#*:} length=${length# } ;;
    esac
    headers="$headers$line
"
  done
  # Exactly as much as Content-Length says: the next request follows on the same pipe.
  name=$(dd bs=1 count="$length" 2>/dev/null)
  echo "${request%"$cr"}" >&2 # stderr is the log

  printf '%s' "$headers" | NAME=${name:-world} awk '
    { headers = headers $0 "\n" }
    END {
      body = "Hello, " ENVIRON["NAME"] "!\n" headers
      printf "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
      printf "Content-Length: %d\r\n\r\n%s", length(body), body
    }'
done
