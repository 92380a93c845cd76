// Package integration holds tests of the whole: the example server as a process
// of its own, with the real aws command and boto3, on data that survives kill -9, and on a
// Postgres server that the tests start and crash. They
// need what Go does not bring along, which .ci/run installs:
//
//	apt-get install awscli python3-boto3 curl openssl postgresql tmux nodejs npm
//	npm ci --prefix dynalite --ignore-scripts
//	GOWORK=off go test ./...        # in this directory
//
// A part that is missing is a failure, never a skip.
package integration
