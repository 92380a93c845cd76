package files

import (
	"fmt"
	"io/fs"
	"reflect"
)

// Owner is the owner and group of a file, where there is such a thing.
func Owner(info fs.FileInfo) string {
	s := reflect.Indirect(reflect.ValueOf(info.Sys()))
	if !s.IsValid() || !s.FieldByName("Uid").IsValid() {
		return ""
	}
	return fmt.Sprint(s.FieldByName("Uid"), " ", s.FieldByName("Gid"))
}
