// SPDX-License-Identifier: MIT

// A goroutine per connection, as scripts/tasks.ts has a task: for bench.ts to compare with. go build goroutines.go
package main

import (
	"fmt"
	"log"
	"net"
)

func serve(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, 16384)
	for {
		length, err := connection.Read(buffer)
		if err != nil {
			return
		}
		// Write sends all of it, or fails.
		if _, err = connection.Write(buffer[:length]); err != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Print(err)
			continue
		}
		go serve(connection)
	}
}
