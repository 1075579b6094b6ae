// An endpoint whose steps do nothing: what a durable step costs beside the work that it does.
//
//	restate-steps ADDRESS
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	restate "github.com/restatedev/sdk-go"
	"github.com/restatedev/sdk-go/server"
)

// Steps is the service. Its handlers differ in how many steps they take, each of which is in the log before the next
// one begins.
type Steps struct{}

func (Steps) Three(ctx restate.Context, _ int) (int, error) { return through(ctx, 3) }

func (Steps) Ten(ctx restate.Context, _ int) (int, error) { return through(ctx, 10) }

func through(ctx restate.Context, steps int) (int, error) {
	nothing := func(restate.RunContext) (restate.Void, error) { return restate.Void{}, nil }
	for range steps {
		if _, err := restate.Run(ctx, nothing); err != nil {
			return 0, err
		}
	}
	return steps, nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: restate-steps ADDRESS")
		os.Exit(2)
	}
	// A line of log for each step would be most of the work.
	quiet := slog.NewTextHandler(io.Discard, nil)
	endpoint := server.NewRestate().WithLogger(quiet, false).Bind(restate.Reflect(Steps{}))
	if err := endpoint.Start(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "restate-steps:", err)
		os.Exit(1)
	}
}
