package spec

import (
	"reflect"
	"strings"
)

// Fields lists every field of the pipeline file, dotted.
func Fields() []string {
	var out []string
	walk(reflect.TypeFor[File](), "", func(path, _ string) { out = append(out, path) })
	return out
}

// Explain returns the text of a field; ok is false for an unknown one.
func Explain(field string) (text string, ok bool) {
	walk(reflect.TypeFor[File](), "", func(path, t string) {
		if path == field {
			text, ok = t, true
		}
	})
	return text, ok
}

func walk(t reflect.Type, prefix string, visit func(path, text string)) {
	for i := range t.NumField() {
		f := t.Field(i)
		path := prefix + strings.Split(f.Tag.Get("yaml"), ",")[0]
		visit(path, f.Tag.Get("explain"))
		if f.Type.Kind() == reflect.Struct {
			walk(f.Type, path+".", visit)
		}
	}
}
