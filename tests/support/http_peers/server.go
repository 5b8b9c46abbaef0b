// What asgi_app.py says, in Go.
package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

func answer(w http.ResponseWriter, r *http.Request) {
	size, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return
	}
	query := r.URL.RawQuery
	switch r.URL.Path {
	case "/echo":
		io.WriteString(w, query)
	case "/gzip":
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		io.WriteString(packed, strings.Repeat(query, 100))
		packed.Close()
	case "/chunked":
		for i := 0; i < 10; i++ {
			io.WriteString(w, strings.Repeat("x", 20000))
			w.(http.Flusher).Flush()
		}
	case "/moved":
		w.Header().Set("Location", "/echo?"+query)
		w.WriteHeader(302)
	case "/again":
		w.Header().Set("Location", "/upload")
		w.WriteHeader(307)
	case "/cookie":
		w.Header().Set("Set-Cookie", "seen="+query)
		io.WriteString(w, r.Header.Get("Cookie"))
	case "/upload":
		fmt.Fprint(w, size)
	default:
		w.WriteHeader(404)
	}
}

func main() {
	server := &http.Server{
		Addr:        "127.0.0.1:" + os.Args[1],
		Handler:     http.HandlerFunc(answer),
		IdleTimeout: time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
