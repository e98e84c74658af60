package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
)

// sortingSQL is how a database sorts where nothing else is said, in the words of CREATE DATABASE. The columns have other names, or
// none, in other versions. What an ICU or builtin locale decides, LC_COLLATE does not.
const sortingSQL = `
	SELECT CASE d ->> 'datlocprovider' WHEN 'i' THEN 'LOCALE_PROVIDER icu ICU_LOCALE ' || quote_literal(coalesce(d ->> 'datlocale', d ->> 'daticulocale'))
	            || coalesce(' ICU_RULES ' || quote_literal(d ->> 'daticurules'), '')
	       WHEN 'b' THEN 'LOCALE_PROVIDER builtin BUILTIN_LOCALE ' || quote_literal(d ->> 'datlocale')
	       ELSE 'LC_COLLATE ' || quote_literal(d ->> 'datcollate') || ' LC_CTYPE ' || quote_literal(d ->> 'datctype') END
	FROM (SELECT to_jsonb(b) - 'datacl' AS d FROM pg_database b WHERE datname = current_database()) x`

// oneSpelling: systems spell the same locale differently, and three names mean the order of bytes.
var oneSpelling = strings.NewReplacer("utf-8", "utf8", "posix", "c", "locale_provider builtin builtin_locale 'c'", "lc_collate 'c' lc_ctype 'c'")

func sameSorting(a, b string) bool {
	return oneSpelling.Replace(strings.ToLower(a)) == oneSpelling.Replace(strings.ToLower(b))
}

// sorting names both sides when text sorts by different locales.
func (f *findings) sorting(ctx context.Context, tx pgx.Tx, s *sinkFacts, source string) error {
	if source == "" {
		return nil
	}
	var own string
	if err := tx.QueryRow(ctx, sortingSQL).Scan(&own); err != nil {
		return err
	}
	f.check(!sameSorting(own, source), diag.OtherSorting, "database "+s.Database,
		"it has "+own+", the source "+source+": ORDER BY, upper and lower case, ranges of partitions and checks that compare text may come out otherwise",
		"CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' "+source+";  -- and copy into that, if the order matters")
	return nil
}
