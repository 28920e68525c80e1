// SPDX-License-Identifier: Apache-2.0

// Go's own HTTP server and client, which read a byte ahead in a goroutine of their own.
//
//	http server
//	http client URL COUNT WORKERS
//
// The server prints its URL.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
)

func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/sized", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write([]byte(strings.Repeat("s", 1000)))
	})
	http.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < 3; i++ {
			w.Write([]byte(strings.Repeat("c", 3000)))
			w.(http.Flusher).Flush()
		}
	})
	http.HandleFunc("/gone", http.NotFound)
	fmt.Printf("http://%s\n", listener.Addr())
	panic(http.Serve(listener, nil))
}

func ask(url string, count int) {
	for i := 0; i < count; i++ {
		var answer *http.Response
		var err error
		switch i % 4 {
		case 0:
			answer, err = http.Get(url + "/sized")
		case 1:
			answer, err = http.Get(url + "/chunked")
		case 2:
			answer, err = http.Post(url+"/sized", "text/plain", strings.NewReader(strings.Repeat("p", 2000)))
		case 3:
			answer, err = http.Head(url + "/gone")
		}
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
}

func main() {
	if os.Args[1] == "server" {
		serve()
	}
	count, _ := strconv.Atoi(os.Args[3])
	workers, _ := strconv.Atoi(os.Args[4])
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = workers
	var all sync.WaitGroup
	for i := 0; i < workers; i++ {
		all.Add(1)
		go func() {
			ask(os.Args[2], count)
			all.Done()
		}()
	}
	all.Wait()
}
