// The opcodes of Python's pickle: those that are read, and the names of those that are not.
#pragma once

#include <string>

namespace dkdm::io::pickle {

enum Opcode : unsigned char {
  kMark = '(', kStop = '.', kProto = 0x80, kFrame = 0x95,
  kNone = 'N', kNewTrue = 0x88, kNewFalse = 0x89,
  kBinInt = 'J', kBinInt1 = 'K', kBinInt2 = 'M', kLong1 = 0x8a, kLong4 = 0x8b, kBinFloat = 'G',
  kBinUnicode = 'X', kShortBinUnicode = 0x8c, kBinUnicode8 = 0x8d,
  kBinString = 'T', kShortBinString = 'U',  // of Python 2
  kBinBytes = 'B', kShortBinBytes = 'C', kBinBytes8 = 0x8e, kByteArray8 = 0x96,
  kEmptyList = ']', kAppend = 'a', kAppends = 'e', kEmptyDict = '}', kSetItem = 's',
  kSetItems = 'u', kEmptyTuple = ')', kTuple = 't', kTuple1 = 0x85, kTuple2 = 0x86, kTuple3 = 0x87,
  kBinPut = 'q', kLongBinPut = 'r', kMemoize = 0x94, kBinGet = 'h', kLongBinGet = 'j',
  kGlobal = 'c', kStackGlobal = 0x93, kReduce = 'R', kBuild = 'b', kBinPersId = 'Q'
};

struct Refused {
  unsigned char opcode;
  const char* name;
};
// The opcodes that are known and not read, for their names.
inline constexpr Refused kRefused[] = {
    {'0', "POP"}, {'1', "POP_MARK"}, {'2', "DUP"}, {'F', "FLOAT"}, {'I', "INT"}, {'L', "LONG"},
    {'P', "PERSID"}, {'S', "STRING"}, {'V', "UNICODE"}, {'d', "DICT"}, {'g', "GET"},
    {'i', "INST"}, {'l', "LIST"}, {'o', "OBJ"}, {'p', "PUT"}, {0x81, "NEWOBJ"}, {0x82, "EXT1"},
    {0x83, "EXT2"}, {0x84, "EXT4"}, {0x8f, "EMPTY_SET"}, {0x90, "ADDITEMS"}, {0x91, "FROZENSET"},
    {0x92, "NEWOBJ_EX"}, {0x97, "NEXT_BUFFER"}, {0x98, "READONLY_BUFFER"}};

// "the opcode NEWOBJ", "the unknown opcode 0x0a".
inline std::string opcode_name(unsigned char opcode) {
  for (const Refused& one : kRefused) {
    if (one.opcode == opcode) return std::string("the opcode ") + one.name;
  }
  constexpr char digits[] = "0123456789abcdef";
  return std::string("the unknown opcode 0x") + digits[opcode >> 4] + digits[opcode & 15];
}

}  // namespace dkdm::io::pickle
