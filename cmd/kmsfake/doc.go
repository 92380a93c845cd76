// Command kmsfake is an AWS KMS for tests and local development, on its own: for
// the AWS CLI, boto3, and every SDK that can be given an endpoint. It protects
// nothing. docs/kmsfake.md says what it does, and package kmsfake does it.
//
//	kmsfake -addr 127.0.0.1:4599 [-data FILE] [-controls] [-cloudtrail DIR] [-v]
//
// It ends with SIGINT or SIGTERM: calls that are being decided are answered, the
// rest of CloudTrail is written. With -data nothing is lost even by kill -9.
package main
