"""What a completion is worth: is the format right, which option was chosen, is it the right one.

Nothing here looks at gold to read an answer, guesses, or raises for a completion: whatever is not plainly an option is
null. Time is linear in the completion and independent of how hostile it is.
"""

from corl.grading.lines import check_labels, grade_file, grade_lines, tally
from corl.grading.normal_form import MAX_PAYLOAD
from corl.grading.verdict import ANSWER, END_ANSWER, END_OF_TURN, END_THINK, MAX_ANSWERS, THINK, Grade, grade

__all__ = [
    "ANSWER",
    "END_ANSWER",
    "END_OF_TURN",
    "END_THINK",
    "MAX_ANSWERS",
    "MAX_PAYLOAD",
    "THINK",
    "Grade",
    "check_labels",
    "grade",
    "grade_file",
    "grade_lines",
    "tally",
]
