# Makes gantry-driver-KIND(7) of sdk/gantry/plugin.h: awk -v kind=network -v version=0.1.0 -f driver-man.awk plugin.h
#
# The header's first comment is what holds for every driver; its sections on errors, the host table and the descriptor are shown as they are, and so is what the
# kind's own section declares. Each op of the kind's table gets its comment as a text.

function escape(text)
{
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	if (text ~ /^[.']/)
		text = "\\\\&" text
	return text
}

function verbatim(text)
{
	if (!shown) {
		print ".nf"
		shown = 1
	}
	gsub(/\t/, "    ", text)
	print escape(text)
}

function end_verbatim()
{
	if (shown)
		print ".fi"
	shown = 0
}

# The words of a comment's line.
function words(line)
{
	sub(/^[ \t]*\/\*[ \t]?/, "", line)
	sub(/[ \t]*\*\/[ \t]*$/, "", line)
	sub(/^[ \t]*\*[ \t]?/, "", line)
	sub(/^[ \t]+/, "", line)
	return line
}

function heading(title)
{
	end_verbatim()
	print ".SH " title
}

BEGIN {
	print ".TH GANTRY\\-DRIVER\\-" toupper(kind) " 7 \"\" \"gantry " version "\""
	print ".SH NAME\ngantry\\-driver\\-" kind " \\- what a " kind " driver of gantry has to do"
	print ".SH SYNOPSIS\n.nf\n#include <gantry/plugin.h>\n.fi"
	titles["errors"] = "ERRORS"
	titles["what the engine offers"] = "THE HOST TABLE"
	titles["the descriptor"] = "THE DESCRIPTOR"
	titles["data that several kinds share"] = "SHARED DATA"
	titles[kind " drivers"] = "DATA"
}

# ---- the first comment ----

NR == 1, /\*\// {
	line = words($0)
	if (line ~ /^gantry\/plugin.h/)
		heading("DESCRIPTION")
	else if (line ~ /^Rules that hold/)
		print ".SS Rules that hold for everything"
	else if (line ~ /^- /) {
		match(line, /^- [^.]*\./)
		print ".TP\n.B " escape(substr(line, 3, RLENGTH - 3))
		print escape(substr(line, RLENGTH + 2))
	} else if (line != "" && line !~ /^\*?\/$/)
		print escape(line)
	next
}

# ---- sections ----

/^\/\* ---- .* -+ \*\/$/ {
	title = $0
	sub(/^\/\* ---- /, "", title)
	sub(/ -+ \*\/$/, "", title)
	section = titles[title]
	if (section != "")
		heading(section)
	next
}

/^#ifdef __cplusplus/ && section != "" { section = "" }
section == "" { next }

# ---- the table of ops ----

$0 == "struct gantry_" kind "_ops {" {
	heading("OPERATIONS")
	print "Of \\fBstruct gantry_" kind "_ops\\fR, which begins with its size. All return 0, or \\-1 with \\fIerr\\fR filled; \\fIdriver\\fR is what open() gave."
	table = 1
	next
}

table && /^};/ { table = 0; section = "DATA"; next }
table && /^\tuint32_t/ { next }

table && (comment || /^\t\/\*/) {
	text = text (text == "" ? "" : "\n") escape(words($0))
	comment = $0 !~ /\*\//
	next
}

table {
	if ($0 ~ /^[ \t]*$/)
		next
	prototype = prototype (prototype == "" ? "" : "\n") $0
	if ($0 !~ /;/)
		next
	match(prototype, /\(\*[a-z_]+\)/)
	print ".TP\n.B " substr(prototype, RSTART + 2, RLENGTH - 3)
	print ".nf"
	count = split(prototype, lines, "\n")
	for (i = 1; i <= count; i++) {
		gsub(/^[ \t]+/, i == 1 ? "" : "    ", lines[i])
		print escape(lines[i])
	}
	print ".fi"
	if (text != "")
		print ".sp .5v\n" text
	prototype = text = ""
	next
}

# ---- the rest, as it is ----

{ verbatim($0) }

END {
	end_verbatim()
	print ".SH SEE ALSO"
	others = 0
	split("network volume storage", kinds, " ")
	for (i = 1; i <= 3; i++) {
		if (kinds[i] != kind)
			print ".BR gantry\\-driver\\-" kinds[i] " (7),"
	}
	print ".BR gantry\\-plugin\\-new (1),\n.BR gantry\\-plugin\\-check (1),\n.BR gantry\\-plugin\\-reload (1),\n.BR gantryd (8)"
}
