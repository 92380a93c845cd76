// Package kmsfake is an AWS KMS in memory.
package kmsfake
